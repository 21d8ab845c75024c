(send) => {
  // Runs before the page's own scripts and stores references to everything that the page could replace. Must never
  // throw into the page, and leaves nothing in it: neither a global nor an element.
  "use strict";
  try {
    if (window.top !== window.self) return;
    const perf = window.performance, encode = JSON.stringify, later = window.setTimeout.bind(window);
    const now = perf.now.bind(perf), entriesOf = perf.getEntriesByType.bind(perf);
    const types = (window.PerformanceObserver && PerformanceObserver.supportedEntryTypes) || [];
    const known = { origin: perf.timeOrigin, url: location.href };
    const observers = [];
    let hiddenAt = document.visibilityState === "hidden" ? 0 : Infinity;
    let sent = "", sentAt = -Infinity, planned = false;

    const guarded = (f) => (...args) => { try { return f(...args); } catch { return undefined; } };
    const flush = guarded(() => {
      planned = false;
      const text = encode(known);
      if (text === sent) return;
      sent = text;
      sentAt = now();
      send(text);
    });
    // Sends at once if nothing was sent for a while, otherwise at most ten times a second.
    const changed = () => {
      if (planned) return;
      const wait = sentAt + 100 - now();
      if (wait <= 0) return flush();
      planned = true;
      later(flush, wait);
    };

    const observe = (type, options, take) => {
      if (!types.includes(type)) return;
      const took = guarded((entries) => { for (const entry of entries) take(entry); changed(); });
      guarded(() => {
        const observer = new PerformanceObserver((list) => took(list.getEntries()));
        observer.observe({ type, buffered: true, ...options });
        observers.push(() => { const left = observer.takeRecords(); if (left.length) took(left); });
      })();
    };

    // https://web.dev/articles/ttfb, and the times of https://www.w3.org/TR/navigation-timing-2/
    const navigation = guarded(() => {
      const entry = entriesOf("navigation")[0];
      if (!entry) return;
      if (entry.responseStart > 0 && entry.responseStart <= now()) known.ttfb = entry.responseStart;
      if (entry.domainLookupEnd > entry.domainLookupStart) known.resolved = entry.domainLookupEnd;
      if (entry.connectEnd > entry.connectStart) known.connected = entry.connectEnd;
      if (entry.domContentLoadedEventEnd > 0) known.interactive = entry.domContentLoadedEventEnd;
      if (entry.loadEventEnd > 0) known.loaded = entry.loadEventEnd;
      changed();
    });

    // A paint after the page was hidden is late for another reason.
    observe("paint", {}, (entry) => {
      if (entry.name === "first-contentful-paint" && entry.startTime < hiddenAt) known.fcp = entry.startTime;
    });
    // https://web.dev/articles/lcp: the browser itself ends the series at the first input.
    observe("largest-contentful-paint", {}, (entry) => {
      if (entry.startTime < hiddenAt) known.lcp = entry.startTime;
    });

    // https://web.dev/articles/cls: the largest session window. Gaps within a window are shorter than 1 s, and a window
    // lasts at most 5 s.
    let shift = 0, first = 0, last = 0;
    if (types.includes("layout-shift")) known.cls = 0;
    observe("layout-shift", {}, (entry) => {
      if (entry.hadRecentInput) return;
      const goesOn = shift > 0 && entry.startTime - last < 1000 && entry.startTime - first < 5000;
      if (goesOn) shift += entry.value;
      else [shift, first] = [entry.value, entry.startTime];
      last = entry.startTime;
      if (shift > known.cls) known.cls = shift;
    });

    // https://web.dev/articles/inp: the longest interaction, ignoring one for every 50. The ten longest are kept.
    let longest = [], low = Infinity, high = 0;
    const interaction = (entry) => {
      const id = entry.interactionId;
      // A browser that rounds to 8 ms reports 0 for a short interaction, which is not a measurement.
      if (!id || !(entry.duration > 0)) return;
      [low, high] = [Math.min(low, id), Math.max(high, id)];
      const same = longest.find((one) => one.id === id);
      if (same) same.duration = Math.max(same.duration, entry.duration);
      else longest.push({ id, duration: entry.duration });
      longest.sort((a, b) => b.duration - a.duration);
      longest = longest.slice(0, 10);
      // If the browser does not count interactions, they are counted by their ids, which increase by 7.
      const count = perf.interactionCount || (high - low) / 7 + 1;
      known.inp = longest[Math.min(longest.length - 1, Math.floor(count / 50))].duration;
    };
    observe("event", { durationThreshold: 40 }, interaction);
    observe("first-input", {}, interaction);

    const settle = guarded(() => {
      for (const take of observers) guarded(take)();
      navigation();
      flush();
    });
    const listen = (target, type, f) => target.addEventListener(type, guarded(f), { capture: true, passive: true });
    listen(document, "visibilitychange", () => {
      if (document.visibilityState !== "hidden") return;
      settle();
      hiddenAt = Math.min(hiddenAt, now());
    });
    listen(window, "pagehide", settle);
    listen(document, "DOMContentLoaded", () => later(navigation, 0));
    // The end of `load` is available after its listeners have run.
    listen(window, "load", () => later(navigation, 0));
    navigation();
    flush();
  } catch { /* Vitals are optional. */ }
}
