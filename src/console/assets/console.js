// What moves on a page: times in the reader's zone, countdowns, copying, and the page itself when something that it shows
// changes (GET /v1/events). Every page says and does the same without it. It builds no element from text: a changed page
// comes from the gate, escaped there, and scripts in it would not run.
"use strict";
(() => {
  const gateTime = Date.parse(document.documentElement.dataset.now || "");
  // The gate's clock decides, not this machine's.
  const ahead = Number.isNaN(gateTime) ? 0 : gateTime - Date.now();
  const now = () => Date.now() + ahead;

  const dayAndTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  const timeOnly = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
  const precise = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });

  function written(element) {
    const time = new Date(element.dateTime);
    if (Number.isNaN(time.getTime())) return null;
    if (element.dataset.form === "precise") return precise.format(time);
    const today = time.toDateString() === new Date(now()).toDateString();
    return (today ? timeOnly : dayAndTime).format(time);
  }

  function left(milliseconds) {
    const seconds = Math.max(0, Math.floor(milliseconds / 1000));
    const two = (number) => String(number).padStart(2, "0");
    const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
    if (hours >= 48) return `${Math.floor(hours / 24)} days left`;
    return `${hours > 0 ? `${hours}:${two(minutes)}` : minutes}:${two(rest)} left`;
  }

  function localTimes(root) {
    for (const element of root.querySelectorAll("time[datetime]:not(.left)")) {
      const text = written(element);
      if (text) element.textContent = text;
    }
  }

  const over = new Map();
  function tick() {
    for (const element of document.querySelectorAll("time.left[datetime]")) {
      const until = Date.parse(element.dateTime) - now();
      const text = until > 0 ? left(until) : "the time is over";
      if (element.textContent !== text) element.textContent = text;
      // The gate has ended it; a few looks, in case this clock is a little ahead of it.
      const looks = over.get(element.dateTime) ?? 0;
      if (until <= 0 && !element.dataset.over && looks < 3) {
        element.dataset.over = "yes";
        over.set(element.dateTime, looks + 1);
        changed();
      }
    }
  }

  async function copy(button) {
    const text = document.getElementById(button.dataset.copy)?.textContent ?? "";
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without the right to the clipboard (plain http): what was to be copied is selected, for Ctrl-C.
      const range = document.createRange();
      range.selectNodeContents(document.getElementById(button.dataset.copy));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Selected";
      return;
    }
    const before = button.dataset.label ?? button.textContent;
    button.dataset.label = before;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 2000);
  }

  function prepare(root) {
    localTimes(root);
    for (const button of root.querySelectorAll("button[data-copy]")) {
      button.hidden = false;
      button.addEventListener("click", () => copy(button));
    }
    for (const form of root.querySelectorAll("form")) {
      // A second click is not a second order.
      form.addEventListener("submit", (event) => {
        if (form.dataset.sent) event.preventDefault();
        form.dataset.sent = "yes";
      });
    }
    tick();
  }

  // Somebody who is filling in a form keeps it, and is told.
  const inUse = (content) =>
    content.contains(document.activeElement) && document.activeElement.matches("input, select, textarea") ||
    [...content.querySelectorAll("input:not([type=hidden]), textarea")].some((field) => field.value !== field.defaultValue);

  async function renew() {
    const content = document.getElementById("content");
    if (!content) return;
    if (inUse(content)) {
      const bar = document.getElementById("changed");
      if (bar) bar.hidden = false;
      return;
    }
    const answer = await fetch(location.href, {
      // Nobody did anything: it is no use of the sign-in.
      headers: { accept: "text/html", "tidegate-renewal": "yes" }, cache: "no-store", signal: AbortSignal.timeout(15000),
    });
    // What is there says more than that it cannot be renewed now.
    if (!answer.ok && answer.status !== 401 && answer.status !== 404) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = page.getElementById("content");
    if (!next || answer.redirected) {
      location.reload();
      return;
    }
    content.dataset.renew = next.dataset.renew ?? "";
    const focused = document.activeElement?.id;
    content.replaceChildren(...next.childNodes);
    prepare(content);
    if (focused) document.getElementById(focused)?.focus();
    const said = document.getElementById("said");
    const status = content.querySelector(".status");
    if (said && status) said.textContent = `Now: ${status.textContent}`;
    document.title = page.title;
  }

  // One renewal at a time, and one more for all that changes meanwhile.
  let waiting = false;
  let again = false;
  async function changed() {
    again = true;
    if (waiting) return;
    waiting = true;
    while (again) {
      await new Promise((resolve) => { setTimeout(resolve, 150); });
      again = false;
      await renew().catch(() => {});
    }
    waiting = false;
  }

  // Some pages show what moves without an event: they are renewed for as long as somebody looks.
  function renewals(content) {
    let waited = 0;
    setInterval(() => {
      const seconds = Number(content.dataset.renew || 0);
      waited = seconds > 0 && !document.hidden ? waited + 1 : 0;
      if (seconds > 0 && waited >= seconds) { waited = 0; changed(); }
    }, 1000);
  }

  function follow(content) {
    const kinds = (content.dataset.follow || "").split(" ").filter(Boolean);
    if (kinds.length === 0 || !window.EventSource) return;
    const subject = content.dataset.subject;
    const source = new EventSource("/v1/events");
    for (const kind of kinds) {
      source.addEventListener(kind, (event) => {
        if (!subject || event.data.includes(subject)) changed();
      });
    }
    source.addEventListener("lagged", changed);
    let broken = false;
    source.addEventListener("error", () => {
      broken = true;
      // Refused for good (too many windows, signed out): the page is looked at again instead.
      if (source.readyState === EventSource.CLOSED) setInterval(changed, 10000);
    });
    source.addEventListener("open", () => {
      if (broken) changed();
      broken = false;
    });
    addEventListener("pagehide", () => source.close());
  }

  const content = document.getElementById("content");
  prepare(document);
  setInterval(tick, 1000);
  if (content) {
    follow(content);
    renewals(content);
  }
  document.querySelector("#changed button")?.addEventListener("click", () => location.reload());
  // A page from the browser's memory may be old.
  addEventListener("pageshow", (event) => { if (event.persisted && content?.dataset.follow) location.reload(); });
})();
