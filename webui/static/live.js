// Keeps a page current: an event says that something came, the rendered part is then fetched from the server.
// Without events (a proxy holds them back, too many tabs) the page polls and says so. Hidden pages ask nothing.
(() => {
  "use strict";
  const POLL_MS = 10000, WATCH_MS = 21000, RETRY_MS = 60000, LEAST_GAP_MS = 1000, MAX_ROWS = 300;
  const chip = document.querySelector("[data-chip]");
  const rows = document.querySelector("[data-rows]");
  const parts = [...document.querySelectorAll("[data-live]")];
  const pause = document.querySelector("[data-pause]");
  let stream = null, watchdog = 0, retry = 0, planned = 0, busy = false, paused = false;
  let how = "", lastGood = Date.now(), lastFetch = 0;

  const show = () => {
    const age = Math.round((Date.now() - lastGood) / 1000);
    const stale = age > 25;
    const text = paused ? "Paused" : stale ? `Stale ${age} s` : how;
    if (chip.textContent !== text) chip.textContent = text;
    chip.className = "chip " + (stale || paused ? "warn" : how === "Live" ? "ok" : "");
    chip.hidden = !text;
  };
  const say = (text) => { how = text; show(); };

  const get = async (url) => {
    const answer = await fetch(url, { headers: { "X-Fragment": "1" }, cache: "no-store" });
    if (answer.status === 401) { location.reload(); throw new Error("signed out"); }
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return answer;
  };
  const parsed = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content;
  };
  const renew = async (part) => {
    const html = await (await get(part.dataset.live)).text();
    // What somebody is about to press stays where it is.
    if (part.dataset.was !== html && !part.contains(document.activeElement)) {
      part.replaceChildren(parsed(html));
      part.dataset.was = html;
    }
  };
  const renewRows = async () => {
    const url = new URL(rows.dataset.rows, location.href);
    const newest = rows.querySelector("tr");
    if (newest) url.searchParams.set("after", newest.dataset.n);
    const answer = await get(url);
    const fresh = parsed(await answer.text());
    if (answer.headers.get("X-Whole")) rows.replaceChildren(fresh);
    else rows.prepend(fresh);
    while (rows.children.length > MAX_ROWS) rows.lastElementChild.remove();
  };
  const refresh = async () => {
    if (busy || document.hidden) return;
    busy = true;
    lastFetch = Date.now();
    const jobs = parts.map(renew);
    if (rows && !paused) jobs.push(renewRows());
    const done = await Promise.allSettled(jobs);
    busy = false;
    if (done.every((job) => job.status === "fulfilled")) lastGood = Date.now();
    show();
  };
  const soon = () => {
    if (planned) return;
    const wait = Math.max(0, lastFetch + LEAST_GAP_MS - Date.now());
    planned = setTimeout(() => { planned = 0; refresh(); }, wait);
  };

  const hangUp = () => {
    clearTimeout(watchdog);
    clearTimeout(retry);
    if (stream) stream.close();
    stream = null;
  };
  const poll = () => {
    hangUp();
    say("Polling every 10 s");
    retry = setTimeout(listen, RETRY_MS);
  };
  const heard = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(poll, WATCH_MS);
    say("Live");
  };
  const listen = () => {
    hangUp();
    if (document.hidden) return;
    stream = new EventSource(document.body.dataset.stream);
    watchdog = setTimeout(poll, WATCH_MS);
    stream.onopen = () => { heard(); soon(); };
    stream.addEventListener("frames", () => { heard(); soon(); });
    stream.addEventListener("beat", heard);
    stream.addEventListener("bye", poll);
    stream.onerror = () => {
      if (stream && stream.readyState === EventSource.CLOSED) poll();
      else say("Reconnecting");
    };
  };

  if (pause) {
    pause.hidden = false;
    pause.onclick = () => {
      paused = !paused;
      pause.textContent = paused ? "Go on" : "Pause";
      pause.setAttribute("aria-pressed", paused);
      if (!paused) soon();
      show();
    };
  }
  setInterval(refresh, POLL_MS);
  setInterval(show, 1000);
  addEventListener("pagehide", hangUp);
  addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
  document.addEventListener("visibilitychange", () => { if (document.hidden) hangUp(); else { refresh(); listen(); } });
  listen();
})();
