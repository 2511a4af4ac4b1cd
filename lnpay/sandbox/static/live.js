// The page of an open order looks again every two seconds and shows what has changed. A reload would do the same, and
// take away where one reads and what one has opened; it is for browsers without scripts.
(() => {
  "use strict";
  const PAUSE = 2000;
  const main = () => document.getElementById("main");

  async function look() {
    try {
      const answer = await fetch(location.href);
      if (answer.ok) show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      // The sandbox has ended, or is being started again.
    }
    if (main().dataset.final === "false") setTimeout(look, PAUSE);
  }

  function show(fresh) {
    const next = fresh.getElementById("main");
    document.querySelector("header time").replaceWith(fresh.querySelector("header time"));
    if (next.dataset.state === main().dataset.state) return;
    const hadFocus = main().contains(document.activeElement);
    main().replaceWith(next);
    document.title = fresh.title;
    document.getElementById("news").textContent = next.querySelector("h2").textContent;
    if (hadFocus) next.focus();
  }

  setTimeout(look, PAUSE);
})();
