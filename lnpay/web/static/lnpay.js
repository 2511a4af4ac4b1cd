// The payment page in a window of the shop's own page:
//
//   <script src="https://pay.example/lnpay.js"></script>
//   LNPay.open(checkoutUrl, { onPaid, onUnderpaid, onExpired, onClose })
//   <lnpay-button checkout-url="...">Pay with Lightning</lnpay-button>      events: paid, underpaid, expired, close
//
// The shop's origin must be in CORS_ORIGINS. What is said here is for the eyes only: a shop hands out goods when LNPay
// has told its server.
(() => {
  "use strict";
  if (window.LNPay) return;

  const LOOK = `
    dialog.lnpay { width: min(27rem, 100vw); height: min(56rem, 100dvh); max-width: none; max-height: none; padding: 0;
      border: 0; border-radius: 1.25rem; overflow: hidden; background: Canvas; box-shadow: 0 24px 80px #0006 }
    dialog.lnpay::backdrop { background: #000a }
    dialog.lnpay iframe { display: block; width: 100%; height: 100%; border: 0 }
    dialog.lnpay iframe[hidden] { display: none }
    dialog.lnpay p { margin: 4rem 1.5rem 1.5rem; font: 1rem/1.5 system-ui, sans-serif; color: CanvasText; overflow-wrap: anywhere }
    dialog.lnpay button { position: absolute; inset-block-start: .5rem; inset-inline-end: .5rem; width: 2.75rem; height: 2.75rem;
      font: 1.5rem/1 system-ui, sans-serif; color: CanvasText; background: Canvas; border: 0; border-radius: 50%; cursor: pointer }
    dialog.lnpay button:focus-visible { outline: 3px solid Highlight; outline-offset: -3px }
    @media (max-width: 27rem) { dialog.lnpay { width: 100vw; height: 100dvh; border-radius: 0 } }`;
  const BUTTON = `
    button { min-height: 3rem; padding: .6875rem 1.5rem; font: 600 1rem/1.5 system-ui, sans-serif; color: #fff; background: #0a6b4d;
      border: 0; border-radius: .75rem; cursor: pointer }
    button:focus-visible { outline: 3px solid #0a6b4d; outline-offset: 3px }`;
  // Milliseconds after the frame has loaded: a page that may be shown speaks before that.
  const SILENT_FOR = 500;
  const NO_WORD_FOR = 4000;
  let isDressed = false;

  // A sheet made by a script, because a strict policy of the shop's page refuses <style>.
  const sheet = (css) => {
    const made = new CSSStyleSheet();
    made.replaceSync(css);
    return made;
  };

  function explain(dialog, frame, url) {
    const reason = `The payment page may not be shown inside this page: add ${location.origin} to CORS_ORIGINS of the LNPay at ` +
      `${url.origin} and restart it.`;
    console.error(`LNPay: ${reason}`);
    const words = document.createElement("p");
    const link = document.createElement("a");
    words.setAttribute("role", "alert");
    words.lang = "en";
    words.textContent = `${reason} `;
    link.href = url.href;
    link.textContent = "Open the payment page";
    words.append(link);
    frame.hidden = true;
    dialog.append(words);
  }

  function open(checkoutUrl, { onPaid, onUnderpaid, onExpired, onClose } = {}) {
    const url = new URL(checkoutUrl, location.href);
    if (!/^https?:$/.test(url.protocol)) throw new TypeError("LNPay.open needs the checkout_url of an invoice");
    if (!isDressed) document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet(LOOK)];
    isDressed = true;

    const dialog = document.createElement("dialog");
    const frame = document.createElement("iframe");
    const button = document.createElement("button");
    const said = new Set();
    let hasSpoken = false;
    dialog.className = "lnpay";
    dialog.setAttribute("aria-label", "Lightning");
    frame.title = "Lightning";
    frame.allow = "clipboard-write";
    frame.src = url.href;
    button.type = "button";
    button.textContent = "×";
    button.setAttribute("aria-label", "Close");

    const once = (name, call) => {
      if (said.has(name)) return;
      said.add(name);
      if (call) call({ checkoutUrl: url.href });
    };
    // Again when a further part arrives.
    const underpaid = ({ receivedSats, missingSats }) => once(`underpaid ${receivedSats}`,
      (detail) => { if (onUnderpaid) onUnderpaid({ ...detail, receivedSats, missingSats }); });
    const hear = (event) => {
      // Only the page we opened, and only from where we opened it.
      if (event.source !== frame.contentWindow || event.origin !== url.origin) return;
      const word = event.data;
      if (!word || word.lnpay !== 1) return;
      hasSpoken = true;
      dialog.setAttribute("aria-label", word.title);
      frame.title = word.title;
      button.setAttribute("aria-label", word.close);
      if (word.type === "close") dialog.close();
      if (word.state === "paid") once("paid", onPaid);
      if (word.state === "underpaid") underpaid(word);
      if (word.state === "underpaid_over") once("expired", onExpired);
      if (word.state === "expired" || word.state === "cancelled") once("expired", onExpired);
    };
    // A page that may not stand in a frame here never speaks. The developer should see why at once; the customer should
    // be able to pay nevertheless.
    frame.addEventListener("load", () => {
      const ifSilent = (call) => () => { if (!hasSpoken && dialog.open) call(); };
      setTimeout(ifSilent(() => explain(dialog, frame, url)), SILENT_FOR);
      setTimeout(ifSilent(() => location.assign(url.href)), NO_WORD_FOR);
    });
    window.addEventListener("message", hear);
    button.addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => {
      window.removeEventListener("message", hear);
      dialog.remove();
      once("close", onClose);
    });
    dialog.append(button, frame);
    document.body.append(dialog);
    // A modal dialog keeps the focus inside, closes on Escape and gives the focus back: the browser's own work.
    dialog.showModal();
    return { close: () => dialog.close() };
  }

  class Button extends HTMLElement {
    connectedCallback() {
      if (this.shadowRoot) return;
      const root = this.attachShadow({ mode: "open", delegatesFocus: true });
      const button = document.createElement("button");
      const slot = document.createElement("slot");
      button.type = "button";
      button.part = "button";
      slot.textContent = "Pay with Lightning";
      button.append(slot);
      root.append(button);
      root.adoptedStyleSheets = [sheet(BUTTON)];
      button.addEventListener("click", () => {
        const tell = (name) => (detail) => this.dispatchEvent(new CustomEvent(name, { detail }));
        open(this.getAttribute("checkout-url"), {
          onPaid: tell("paid"), onUnderpaid: tell("underpaid"), onExpired: tell("expired"), onClose: tell("close"),
        });
      });
    }
  }

  window.LNPay = { open };
  customElements.define("lnpay-button", Button);
})();
