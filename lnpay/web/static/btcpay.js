// The payment page in a frame of a shop's page, for plugins made for BTCPay Server: they call window.btcpay.
(() => {
  "use strict";
  if (window.btcpay) return;

  const own = document.currentScript && document.currentScript.src;
  let prefix = own ? own.replace(/\/modal\/btcpay\.js(?:[?#].*)?$/, "") : location.origin;
  let frame = null;
  const listeners = { enter: () => {}, leave: () => {}, message: () => {} };

  // Milliseconds after which a page that has loaded is shown although it has not said so: its script may be blocked.
  const SILENT_FOR = 4000;

  const origin = () => new URL(prefix, location.href).origin;

  function remove() {
    if (!frame) return;
    clearTimeout(frame.timer);
    frame.element.remove();
    frame = null;
  }

  function showFrame() {
    if (!frame || frame.isShown) return;
    frame.isShown = true;
    listeners.enter();
    frame.element.style.display = "block";
    frame.element.focus();
  }

  function hideFrame() {
    if (!frame) return;
    const wasShown = frame.isShown;
    const opener = frame.opener;
    remove();
    if (wasShown) listeners.leave();
    if (opener && opener.isConnected) opener.focus();
  }

  function hear(event) {
    // Only the page that we opened, and only from where we opened it.
    if (!frame || event.source !== frame.element.contentWindow || event.origin !== origin()) return;
    const word = event.data;
    if (word && word.lnpay) return; // for lnpay.js
    if (word === "loaded") showFrame();
    if (word === "close") hideFrame();
    if (word && typeof word.open === "string" && /^(bitcoin|lightning):/i.test(word.open)) location.assign(word.open);
    listeners.message(event);
  }

  function appendInvoiceFrame(invoiceId, params) {
    remove();
    const method = typeof params === "string" ? params : params && params.paymentMethodId;
    const id = encodeURIComponent(invoiceId);
    const element = document.createElement("iframe");
    element.name = "btcpay";
    element.title = "Lightning";
    element.allow = "clipboard-write";
    // Each by itself: a strict policy of the shop's page refuses a style attribute as a whole.
    Object.assign(element.style, {
      display: "none", position: "fixed", top: "0", left: "0", width: "100%", height: "100%", border: "0",
      margin: "0", padding: "0", zIndex: "2000", background: "transparent", colorScheme: "normal",
    });
    element.src = method ? `${prefix}/i/${id}/${encodeURIComponent(method)}?view=modal` : `${prefix}/invoice?id=${id}&view=modal`;
    const made = { element, isShown: false, opener: document.activeElement, timer: 0 };
    element.addEventListener("load", () => { made.timer = setTimeout(() => { if (frame === made) showFrame(); }, SILENT_FOR); });
    frame = made;
    document.body.append(element);
  }

  function appendAndShowInvoiceFrame(invoiceId, params) {
    appendInvoiceFrame(invoiceId, params);
    showFrame();
  }

  window.addEventListener("message", hear);
  window.btcpay = {
    setApiUrlPrefix: (url) => { prefix = String(url).replace(/\/+$/, ""); },
    showInvoice: appendInvoiceFrame,
    appendInvoiceFrame,
    appendAndShowInvoiceFrame,
    showFrame,
    hideFrame,
    onModalWillEnter: (call) => { listeners.enter = call; },
    onModalWillLeave: (call) => { listeners.leave = call; },
    onModalReceiveMessage: (call) => { listeners.message = call; },
  };
})();
