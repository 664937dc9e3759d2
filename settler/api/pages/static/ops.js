// What the operator's pages do better with a script; all of it works without.
"use strict";

// What came of a form gets the focus: it is read first.
const told = document.querySelector("[role=alert][tabindex], [role=status][tabindex]");
if (told) told.focus();

// A form is sent once, however often its button is pressed; coming back to the page makes it ready again.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
});

// Parts marked `data-refresh` (seconds) are kept up to date while somebody may look at them and is not in them.
const part = document.querySelector("[data-refresh]");
if (part) window.setInterval(refresh, Number(part.dataset.refresh) * 1000);

async function refresh() {
  const shown = document.querySelector("[data-refresh]");
  if (document.hidden || shown.contains(document.activeElement)) return;
  try {
    const answer = await fetch(location.href, { redirect: "error", cache: "no-store" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const name of ["[data-refresh]", "[data-fresh]"]) {
      const fresh = page.querySelector(name);
      if (fresh) document.querySelector(name).replaceChildren(...fresh.childNodes);
    }
  } catch {
    // away, or logged out: what is shown says of when it is
  }
}
