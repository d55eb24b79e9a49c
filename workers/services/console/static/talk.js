// Chat: Enter sends where there is a keyboard, and the newest line stays in view.
"use strict";
(() => {
  const fine = matchMedia("(pointer: fine)");
  document.addEventListener("keydown", (event) => {
    const form = event.target.closest && event.target.closest("form.composer");
    if (!form || event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    if (!fine.matches && !event.ctrlKey) return;
    event.preventDefault();
    if (form.checkValidity()) form.requestSubmit();
  });
  const lines = document.getElementById("lines");
  if (!lines) return;
  let atEnd = true;
  const isAtEnd = () => innerHeight + scrollY >= document.body.scrollHeight - 120;
  addEventListener("scroll", () => { atEnd = isAtEnd(); }, { passive: true });
  new MutationObserver(() => {
    if (atEnd) scrollTo(0, document.body.scrollHeight);
  }).observe(lines.parentElement.parentElement, { childList: true, subtree: true, characterData: true });
  document.addEventListener("htmx:after:swap", () => {
    const text = document.querySelector("#composer textarea");
    if (text && document.activeElement === document.body) text.focus();
  });
})();
