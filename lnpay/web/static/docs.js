// "Try it" in /docs: sends the request that is written in a form to this LNPay and shows the answer.
(() => {
  "use strict";
  const root = new URL(".", location.href);

  const show = (place, text) => { place.hidden = false; place.textContent = text; };

  function address(form) {
    let path = form.dataset.path;
    const query = new URLSearchParams();
    for (const input of form.querySelectorAll("[data-in]")) {
      const value = input.value.trim();
      if (input.dataset.in === "path") path = path.replace(`{${input.name}}`, encodeURIComponent(value));
      else if (value) query.append(input.name, value);
    }
    const asked = query.toString();
    return new URL(path.slice(1) + (asked && `?${asked}`), root);
  }

  function options(form) {
    const made = { method: form.dataset.method, headers: {}, credentials: "omit", cache: "no-store" };
    const [key, body] = [form.elements.key, form.elements.body];
    if (key && key.value) made.headers.Authorization = `Bearer ${key.value}`;
    if (body) {
      made.headers["Content-Type"] = "application/json";
      made.body = body.value;
    }
    return made;
  }

  async function read(answer) {
    const type = (answer.headers.get("Content-Type") || "").split(";")[0];
    if (/^image\//.test(type)) return `${type}, ${(await answer.blob()).size.toLocaleString("en")} bytes`;
    const text = await answer.text();
    try {
      // A picture in base64 would fill pages.
      return JSON.stringify(JSON.parse(text), (_, value) => typeof value === "string" && value.length > 400 ? `${value.slice(0, 60)}…` : value, 2);
    } catch {
      return text;
    }
  }

  async function send(form) {
    const place = form.parentElement.querySelector(".answer");
    const button = form.querySelector("button");
    button.disabled = true;
    show(place, "Waiting for the answer…");
    try {
      const answer = await fetch(address(form), options(form));
      show(place, `${answer.status} ${answer.statusText}\n\n${await read(answer)}`);
    } catch {
      show(place, "There was no answer: is LNPay running?");
    } finally {
      button.disabled = false;
    }
  }

  for (const part of document.querySelectorAll("details.try")) {
    const form = part.querySelector("form");
    part.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(form);
    });
    // One key serves every form of its kind, and is forgotten with the page.
    const key = form.elements.key;
    if (!key) continue;
    key.addEventListener("input", () => {
      for (const other of document.querySelectorAll(`input[name=key][data-kind="${key.dataset.kind}"]`)) other.value = key.value;
    });
  }
})();
