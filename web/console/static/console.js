// quorumhub's console. Pages work without this script; it puts times in the reader's zone and replaces what changes.
"use strict";
(() => {
	const units = [["day", 86400], ["h", 3600], ["min", 60], ["s", 1]];
	const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

	const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });

	function span(seconds) {
		for (const [unit, size] of units) {
			if (seconds >= size * (unit === "day" ? 2 : 1)) {
				const n = Math.floor(seconds / size);
				return n + " " + unit + (unit === "day" ? "s" : "");
			}
		}
		return "0 s";
	}

	function tell(time) {
		const at = Date.parse(time.dateTime);
		if (Number.isNaN(at)) return;
		const ago = Math.round((Date.now() - at) / 1000);
		let text = "just now";
		if (ago > 0) text = span(ago) + " ago";
		if (ago < 0) text = "in " + span(-ago);
		if (time.dataset.exact !== undefined) text = exact.format(at);
		if (time.dataset.clock !== undefined) text = clock.format(at);
		if (time.textContent !== text) time.textContent = text;
		const title = exact.format(at);
		if (time.title !== title) time.title = title;
	}

	const tellAll = (root) => root.querySelectorAll("time[datetime]").forEach(tell);
	tellAll(document);
	setInterval(() => tellAll(document), 1000);

	// On narrow screens the sections are a line that can be moved; show the one that is open.
	const open = document.querySelector(".side [aria-current]");
	if (open) open.scrollIntoView({ block: "nearest", inline: "center" });

	// Live updates: an element is replaced by its newest form, unless the reader is at work in it.
	const source = document.body.dataset.live;
	if (!source || !window.EventSource) return;
	const state = document.getElementById("live-state");
	const button = state && state.querySelector("button");
	const waiting = new Map();
	let stopped = false;

	function atWork(element) {
		const active = document.activeElement;
		if (active && active !== element && element.contains(active) && active.matches("input, select, textarea")) return true;
		const selection = document.getSelection();
		return Boolean(selection && !selection.isCollapsed && element.contains(selection.anchorNode));
	}

	function put(id, html) {
		const old = document.getElementById(id);
		if (!old) return;
		if (stopped || atWork(old)) {
			waiting.set(id, html);
			return;
		}
		waiting.delete(id);
		const holder = document.createElement("template");
		holder.innerHTML = html;
		const fresh = holder.content.firstElementChild;
		if (!fresh) return;
		tellAll(holder.content);
		for (const details of fresh.querySelectorAll("details[id]")) {
			const before = document.getElementById(details.id);
			if (before) details.open = before.open;
		}
		const active = document.activeElement;
		const focus = active && old.contains(active) ? active.id || active.getAttribute("href") : null;
		const scrolled = [...old.querySelectorAll(".scroll")].map((e) => e.scrollLeft);
		old.replaceWith(fresh);
		fresh.querySelectorAll(".scroll").forEach((e, i) => { e.scrollLeft = scrolled[i] || 0; });
		if (focus) {
			const again = fresh.querySelector("#" + CSS.escape(focus)) || fresh.querySelector("[href=" + CSS.escape(focus) + "]");
			if (again) again.focus({ preventScroll: true });
		}
	}

	function flush() {
		for (const [id, html] of [...waiting]) put(id, html);
	}

	function say(text, lost) {
		if (!state) return;
		state.hidden = false;
		state.classList.toggle("lost", lost);
		button.textContent = text;
	}

	const events = new EventSource(source);
	events.addEventListener("open", () => say(stopped ? "Stopped" : "Live", false));
	events.addEventListener("swap", (e) => {
		const data = JSON.parse(e.data);
		put(data.id, data.html);
	});
	events.addEventListener("error", () => say(events.readyState === EventSource.CLOSED ? "Not live: load the page again" : "Reconnecting", true));
	document.addEventListener("focusout", () => setTimeout(flush, 0));
	document.addEventListener("selectionchange", () => { if (waiting.size) setTimeout(flush, 500); });
	if (button) {
		button.addEventListener("click", () => {
			stopped = !stopped;
			button.setAttribute("aria-pressed", String(stopped));
			say(stopped ? "Stopped" : "Live", false);
			flush();
		});
	}
	window.addEventListener("pagehide", () => events.close());
})();
