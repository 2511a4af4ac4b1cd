// A page with a part that changes by itself looks again every two seconds, and replaces that part. A reload would take
// away what one has typed or opened, and where one reads; it is for browsers without scripts.
(() => {
  "use strict";
  const PAUSE = 2000;
  const part = () => document.querySelector("[data-live]");

  async function look() {
    try {
      const answer = document.hidden ? null : await fetch(location.href);
      if (answer && answer.ok) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      // The sandbox has ended, or is being started again.
    }
    if (part()) setTimeout(look, PAUSE);
  }

  function show(fresh) {
    const now = part(), next = fresh.getElementById(now.id);
    document.querySelector("header time").replaceWith(fresh.querySelector("header time"));
    // The part of an order that is finished is not alive any more.
    if (!next || next.dataset.live === now.dataset.live) return;
    const hadFocus = now.contains(document.activeElement);
    now.replaceWith(next);
    document.title = fresh.title;
    document.getElementById("news").textContent = next.dataset.says;
    if (hadFocus) next.focus();
  }

  setTimeout(look, PAUSE);
})();
