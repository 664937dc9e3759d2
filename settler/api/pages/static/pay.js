// The payment page, live: follows the invoice's stream, and puts in place of what is shown what the server shows now.
// Without this script the page loads itself again now and then.
"use strict";

(() => {
  const POLL_MS = 15000; // while there is no stream
  const AGAIN_MS = 3000; // after an answer that did not come
  const COPIED_MS = 2000;
  const view = () => document.getElementById("view");
  const live = document.getElementById("live");

  const say = (text) => { if (live.textContent !== text) live.textContent = text; };

  // -- what the server shows now -----------------------------------------------------------------------------------

  let asked = 0;
  let again = 0;

  async function refresh() {
    const mine = ++asked;
    clearTimeout(again);
    let text = null;
    try {
      const answer = await fetch(location.href, { cache: "no-store", headers: { Accept: "text/html" } });
      if (answer.ok) text = await answer.text();
    } catch { /* as an answer that is none */ }
    if (mine !== asked) return; // it was overtaken
    if (text === null) {
      again = setTimeout(refresh, AGAIN_MS);
      return;
    }
    const shown = new DOMParser().parseFromString(text, "text/html");
    const next = shown.getElementById("view");
    if (!next) return;
    const focused = document.activeElement && document.activeElement.id;
    const before = document.getElementById("headline").textContent;
    view().replaceWith(document.adoptNode(next));
    document.title = shown.title;
    prepare();
    if (focused && view().querySelector(`#${CSS.escape(focused)}`)) document.getElementById(focused).focus();
    const after = document.getElementById("headline").textContent;
    if (after !== before) say(after);
  }

  function prepare() {
    for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
    startCountdown();
  }

  // -- the stream --------------------------------------------------------------------------------------------------

  function onInvoice(event) {
    const told = JSON.parse(event.data);
    if (told.state !== view().dataset.state) {
      refresh();
      return;
    }
    for (const payment of told.payments) {
      for (const place of document.querySelectorAll("[data-confirmations]")) {
        if (place.dataset.confirmations === payment.tx_hash && place.textContent !== String(payment.confirmations)) {
          place.textContent = payment.confirmations;
          place.nextSibling.textContent = payment.confirmations === 1 ? " confirmation" : " confirmations";
        }
      }
    }
  }

  function follow() {
    const stream = new EventSource(view().dataset.stream);
    stream.addEventListener("invoice", onInvoice);
    stream.addEventListener("error", () => {
      if (stream.readyState !== EventSource.CLOSED) return; // the browser comes again by itself
      setTimeout(() => { refresh(); follow(); }, POLL_MS);
    });
  }

  // -- time left, by the server's clock ----------------------------------------------------------------------------

  let ticking = 0;

  function startCountdown() {
    clearInterval(ticking);
    const expires = document.getElementById("expires");
    const left = document.getElementById("left");
    if (!expires) return;
    const endsAt = performance.now() + Date.parse(expires.dateTime) - Date.parse(expires.dataset.now);
    let isOver = false;
    const tick = () => {
      const seconds = Math.max(0, Math.ceil((endsAt - performance.now()) / 1000));
      const two = (n) => String(n).padStart(2, "0");
      const days = Math.floor(seconds / 86400);
      const hours = Math.floor(seconds / 3600) % 24;
      const clock = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
      left.textContent = `${days ? `${days} d ` : ""}${days || hours ? `${two(hours)}:` : ""}${clock} left`;
      left.dataset.tone = seconds < 120 ? "warn" : "";
      left.hidden = false;
      if (seconds === 0 && !isOver) {
        isOver = true;
        setTimeout(refresh, 1000);
      }
    };
    tick();
    ticking = setInterval(tick, 1000);
  }

  // -- copying -----------------------------------------------------------------------------------------------------

  async function copy(button) {
    const source = document.getElementById(button.dataset.copy);
    const selection = getSelection();
    selection.selectAllChildren(source);
    let isCopied = false;
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
      isCopied = true;
    } catch { // plain http, or not allowed
      isCopied = document.execCommand("copy");
    }
    if (!isCopied) return; // it stays selected: the visitor copies it
    selection.removeAllRanges();
    const word = button.firstChild;
    word.textContent = "Copied";
    say(`${document.getElementById(button.getAttribute("aria-describedby")).textContent}: copied`);
    setTimeout(() => { word.textContent = "Copy"; }, COPIED_MS);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button) copy(button);
  });

  // a laptop that slept: its clock stood still, and it heard nothing
  document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") refresh(); });
  window.addEventListener("online", refresh);

  prepare();
  follow();
})();
