// Keeps the page up to date while it is open. Without it, a page is what it was when it was loaded.
"use strict";

(() => {
  const main = document.getElementById("main");
  const live = document.getElementById("live");

  // What was done is told once: a reload must not ask for it again.
  const here = new URL(location.href);
  if (here.searchParams.has("said")) {
    here.searchParams.delete("said");
    history.replaceState(null, "", here);
  }
  if (!main || !live || !main.hasAttribute("data-live")) return;

  const show = (state, words) => {
    live.hidden = false;
    live.dataset.state = state;
    if (live.textContent !== words) live.textContent = words;
  };

  // Makes one element like another, without touching what the reader has opened, ticked, typed, marked or scrolled.
  // Not a.id: of a form that is its field of that name.
  const id = (node) => (node.getAttribute ? node.getAttribute("id") : null);
  const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName && id(a) === id(b);
  const liken = (old, fresh) => {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of [...fresh.attributes]) {
      if (old.getAttribute(name) !== value && name !== "open") old.setAttribute(name, value);
    }
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      let found = at;
      while (found && !same(found, next)) found = found.nextSibling;
      if (!found) {
        old.insertBefore(next, at);
        continue;
      }
      while (at !== found) {
        const gone = at;
        at = at.nextSibling;
        gone.remove();
      }
      liken(found, next);
      at = found.nextSibling;
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };

  let stream;
  let late;
  const listen = () => {
    if (stream) stream.close();
    stream = new EventSource(here);
    const heard = () => {
      clearTimeout(late);
      late = setTimeout(() => show("lost", "No word from the daemon"), 15000);
    };
    stream.addEventListener("page", (event) => {
      heard();
      const fresh = document.createElement("main");
      fresh.innerHTML = JSON.parse(event.data);
      for (const { name, value } of main.attributes) fresh.setAttribute(name, value);
      liken(main, fresh);
      show("live", "Live");
    });
    stream.addEventListener("same", () => heard());
    stream.addEventListener("trouble", (event) => {
      heard();
      show("lost", JSON.parse(event.data));
    });
    stream.addEventListener("error", () => {
      if (stream.readyState !== EventSource.CLOSED) return;
      clearTimeout(late);
      show("lost", "Not live; reload for news");
      late = setTimeout(listen, 10000);
    });
    heard();
  };
  // Who does not look needs no news: daemon and browser have only so many connections.
  const look = () => {
    if (!document.hidden) return listen();
    clearTimeout(late);
    if (stream) stream.close();
  };
  document.addEventListener("visibilitychange", look);
  look();
})();
