/* Follows a list of lines: stays at its end, keeps the last ones, and can be paused. */
"use strict";
function followLog() {
  const log = document.getElementById("log");
  const list = document.getElementById("lines");
  if (!log || !list || !("live" in log.dataset) || "begun" in log.dataset) return;
  log.dataset.begun = "";
  const most = Number(log.dataset.most);
  const button = document.getElementById("pause");
  const waiting = document.getElementById("waiting");
  const held = [];
  let leftOut = 0;
  let below = 0;
  let paused = false;
  let following = true;
  let isOwn = false;

  const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  const toEnd = () => { log.scrollTop = log.scrollHeight; };

  function trim() {
    while (list.children.length > most) list.firstElementChild.remove();
  }

  function show() {
    const count = paused ? held.length + leftOut : below;
    waiting.textContent = count ? `${count} new` : "";
  }

  function pause(wanted) {
    paused = wanted;
    button.textContent = paused ? "Go on" : "Pause following";
    button.setAttribute("aria-pressed", String(paused));
    if (!paused) {
      isOwn = held.length > 0;
      if (leftOut) {
        const note = document.createElement("li");
        note.className = "mark";
        note.textContent = `${leftOut} lines were left out here: the page was paused`;
        list.append(note);
      }
      list.append(...held.splice(0));
      leftOut = 0;
      trim();
      following = true;
      toEnd();
    }
    show();
  }

  new MutationObserver((changes) => {
    if (isOwn) { isOwn = false; return; }
    const added = changes.flatMap((one) => [...one.addedNodes]).filter((one) => one.nodeType === 1);
    if (!added.length) return;
    if (paused) {
      for (const one of added) { one.remove(); held.push(one); }
      while (held.length > most) { held.shift(); leftOut += 1; }
      show();
      return;
    }
    if (following) { trim(); toEnd(); return; }
    below += added.length;
    if (list.children.length > 2 * most) trim();
    show();
  }).observe(list, { childList: true });

  log.addEventListener("scroll", () => {
    if (paused) return;
    following = atEnd();
    if (following && below) { below = 0; trim(); show(); }
  }, { passive: true });
  button.hidden = false;
  button.addEventListener("click", () => pause(!paused));
  log.addEventListener("keydown", (event) => {
    if (event.key !== "p" || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    pause(!paused);
  });
  if ("begins" in log.dataset) following = atEnd();
  else toEnd();
}
followLog();
document.addEventListener("htmx:after:swap", followLog);  // where a page embeds a log
