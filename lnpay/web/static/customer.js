// The open page: counts down, asks where the payment stands, and shows the server's page for the new stage. It decides
// nothing: a wallet in the browser may say what it likes, only the server's answer moves the page.
(() => {
  "use strict";
  const FAST = 2000, SLOW = 10000, ANSWER_WITHIN = 8000, COPIED_FOR = 2500, LOST_AFTER = 3, RETURN_AFTER = 2000;
  const said = document.body.dataset;
  const byId = (id) => document.getElementById(id);
  const page = () => byId("page");
  let timer, ticker, failures = 0, isAsking = false;

  const announce = (text) => { byId("news").textContent = text; };

  // Asking.

  async function ask() {
    clearTimeout(timer);
    if (isAsking) return;
    isAsking = true;
    try {
      const answer = await get(said.status);
      const status = await answer.json();
      const received = status.received_sats ? String(status.received_sats) : undefined;
      if (status.state !== page().dataset.stage || received !== page().dataset.received) await show();
      else if (status.is_final) page().dataset.final = "true";
      failures = 0;
    } catch {
      failures += 1;
    }
    isAsking = false;
    byId("trouble").textContent = said.offline;
    byId("trouble").hidden = failures < LOST_AFTER;
    plan();
  }

  async function get(url) {
    const answer = await fetch(url, { cache: "no-cache", signal: AbortSignal.timeout(ANSWER_WITHIN) });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer;
  }

  function plan() {
    if (page().dataset.final === "true") return;
    const isHurried = ["waiting", "underpaid", "underpaid_over", "seen", "refunding"].includes(page().dataset.stage);
    timer = setTimeout(ask, isHurried && !document.hidden ? FAST : SLOW);
  }

  // Showing.

  async function show() {
    const text = await (await get(location.href)).text();
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const next = fresh.getElementById("page");
    const shown = page().dataset;
    if (!next || (next.dataset.stage === shown.stage && next.dataset.received === shown.received)) return;
    const hadFocus = page().contains(document.activeElement);
    page().replaceWith(document.adoptNode(next));
    document.title = fresh.title;
    announce([...page().querySelectorAll("h1, .lead")].map((one) => one.textContent).join(". "));
    if (hadFocus) page().querySelector("h1").focus();
    set();
  }

  function set() {
    clearInterval(ticker);
    const { stage: state, received, missing } = page().dataset;
    tell({ type: "state", state, receivedSats: Number(received ?? 0), missingSats: Number(missing ?? 0) });
    if (said.invoice) post({ invoiceId: said.invoice, status: page().dataset.word });
    if (page().dataset.return) setTimeout(() => location.assign(page().dataset.return), RETURN_AFTER);
    if (!byId("clock")) return;
    const endsAt = Date.now() + 1000 * byId("clock").dataset.left;
    ticker = setInterval(() => tick(endsAt), 500);
    byId("copy").hidden = false;
    byId("copy").addEventListener("click", copy);
    if (byId("pay-here")) byId("pay-here").addEventListener("click", payHere);
    offerWallet();
  }

  function tick(endsAt) {
    const left = Math.max(0, Math.ceil((endsAt - Date.now()) / 1000));
    const clock = byId("clock");
    const text = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (!clock || clock.textContent === text) return;
    clock.textContent = text;
    byId("bar").value = left;
    page().classList.toggle("ending", left <= 15);
    if (left === 60) announce(said.minute);
    if (left === 15) announce(said.seconds);
    if (left === 0) { clearInterval(ticker); ask(); }
  }

  // Paying.

  async function copy() {
    const button = byId("copy"), label = button.textContent, code = byId("code");
    try {
      await navigator.clipboard.writeText(code.value);
    } catch {
      // Without https, or in a frame that may not: the old way needs the text to be seen.
      code.closest("details").open = true;
      code.select();
      document.execCommand("copy");
    }
    if (label === said.copied) return;
    button.textContent = said.copied;
    announce(said.copied);
    setTimeout(() => { button.textContent = label; }, COPIED_FOR);
  }

  function offerWallet() {
    if (!window.webln || !byId("pay-here")) return;
    byId("pay-here").hidden = false;
    byId("open").classList.add("quiet");
  }

  async function payHere() {
    const button = byId("pay-here"), code = byId("code").value;
    button.disabled = true;
    announce(said.confirm);
    try {
      await window.webln.enable();
      await window.webln.sendPayment(code);
    } catch {
      announce(said.refused);
    }
    button.disabled = false;
    ask();
  }

  // The page that has us in a frame: only one whose origin the shop has named.

  const tell = (message) => post({ lnpay: 1, title: document.title, close: said.close, ...message });

  // What a shop plugin's script expects of the frame: these very words.
  function beInPlugin() {
    if (!said.invoice || window.parent === window) return;
    const button = byId("close");
    button.hidden = false;
    button.addEventListener("click", () => post("close"));
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") post("close"); });
    post("loaded");
  }

  function post(message) {
    if (window.parent === window) return;
    const named = said.parents.split(" ").filter(Boolean);
    const parent = location.ancestorOrigins && location.ancestorOrigins[0];
    const origins = parent && !named.includes("*") ? named.filter((one) => one === parent) : named;
    for (const origin of origins) {
      window.parent.postMessage(message, origin);
    }
  }

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") tell({ type: "close" });
  });
  // The page of an error is final too: it only tells the page around it that it is there.
  const askNow = () => { if (!document.hidden && page().dataset.final !== "true") ask(); };
  document.addEventListener("visibilitychange", askNow);
  window.addEventListener("online", askNow);
  document.addEventListener("webln:ready", offerWallet);
  beInPlugin();
  set();
  plan();
})();
