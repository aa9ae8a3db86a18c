// Keeps the page up to date: asks for the page itself, and puts what changed in its place.
// Without this script everything can be read and done; it is only not live.
"use strict";
(() => {
  const EVERY_MS = 2000;
  const LONGEST_MS = 30000;
  const pulse = document.getElementById("pulse");
  const parts = () => [...document.querySelectorAll("[data-live]")];
  const known = new Map(parts().map((part) => [part.id, part.innerHTML]));
  let tag = null;
  let wait = EVERY_MS;

  // Times come in UTC; whoever looks lives somewhere.
  const localise = (root) => {
    const zone = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
    for (const time of root.querySelectorAll("time[datetime]")) {
      time.title = time.textContent;
      time.textContent = zone.format(new Date(time.dateTime));
    }
  };

  const say = (text, lost) => {
    if (pulse.textContent !== text) pulse.textContent = text;
    pulse.classList.toggle("lost", lost);
    pulse.hidden = false;
  };

  // A part in which somebody stands with the keyboard is renewed around the place where they stand.
  const place = (part) => {
    const active = document.activeElement;
    if (!part.contains(active) || active === part) return null;
    const all = [...part.querySelectorAll("a, button, input, select, summary")];
    return { index: all.indexOf(active), href: active.getAttribute("href") };
  };
  const goBack = (part, left) => {
    const all = [...part.querySelectorAll("a, button, input, select, summary")];
    const same = all.find((one) => left.href !== null && one.getAttribute("href") === left.href);
    (same || all[left.index] || document.getElementById("main")).focus({ preventScroll: true });
  };

  const renew = (fresh) => {
    for (const part of parts()) {
      const now = fresh.getElementById(part.id);
      if (!now || known.get(part.id) === now.innerHTML) continue;
      known.set(part.id, now.innerHTML);
      const left = place(part);
      const open = [...part.querySelectorAll("details")].map((one) => one.open);
      localise(now);
      part.replaceChildren(...now.childNodes);
      [...part.querySelectorAll("details")].forEach((one, k) => { one.open = open[k] === true; });
      if (left) goBack(part, left);
    }
  };

  const ask = async () => {
    const headers = { "X-Illume-Live": "1", ...(tag ? { "If-None-Match": tag } : {}) };
    const answer = await fetch(location.href, { headers, cache: "no-store", signal: AbortSignal.timeout(20000) });
    if (answer.status === 200) {
      tag = answer.headers.get("ETag");
      renew(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } else if (answer.status !== 304) {
      throw new Error(`answered ${answer.status}`);
    }
  };

  const round = async () => {
    if (!document.hidden) {
      try {
        await ask();
        wait = EVERY_MS;
        say("live", false);
      } catch (error) {
        wait = Math.min(2 * wait, LONGEST_MS);
        say("no answer; these figures may be old", true);
      }
    }
    setTimeout(round, wait);
  };

  localise(document);
  if (parts().length) setTimeout(round, EVERY_MS);
})();
