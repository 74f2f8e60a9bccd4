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

	// Events are followed by a cursor that moves only with the rows that are shown, so stopping loses none.
	function follow(rows) {
		const most = 1000;
		const holder = document.getElementById("tail-state");
		const button = holder.querySelector("button");
		let cursor = rows.dataset.tail, halted = false, busy = false;
		const tellTail = (text, lost) => {
			holder.hidden = false;
			holder.classList.toggle("lost", lost);
			button.textContent = text;
		};
		async function turn() {
			if (halted || busy) return;
			busy = true;
			try {
				for (let more = true; more && !halted;) {
					const url = new URL(location.href);
					url.searchParams.set("after", cursor);
					url.searchParams.set("rows", "1");
					const answer = await fetch(url, { headers: { Accept: "text/html" } });
					if ([400, 401, 403, 404].includes(answer.status)) {
						tellTail("Not live: load the page again", true);
						clearInterval(timer);
						return;
					}
					if (!answer.ok) throw new Error(answer.status);
					const box = document.createElement("template");
					box.innerHTML = await answer.text();
					const part = box.content.querySelector("tbody");
					if (!part || !part.dataset.tail) throw new Error("no rows");
					if (halted) return;
					cursor = part.dataset.tail;
					more = part.dataset.more !== undefined;
					tellAll(part);
					if (part.children.length) document.getElementById("tail-empty")?.remove();
					rows.prepend(...part.children);
					while (rows.children.length > most) rows.lastElementChild.remove();
				}
				tellTail(halted ? "Stopped" : "Live", false);
			} catch {
				tellTail("Reconnecting", true);
			} finally {
				busy = false;
			}
		}
		button.addEventListener("click", () => {
			halted = !halted;
			button.setAttribute("aria-pressed", String(halted));
			tellTail(halted ? "Stopped" : "Live", false);
			turn();
		});
		const timer = setInterval(turn, 2000);
		turn();
	}
	const tail = document.getElementById("tail-rows");
	if (tail) follow(tail);

	// A topic's stream, read as any reader reads it, and shown as text.
	function tryStream(form) {
		const most = 200, longest = 4096;
		const rows = document.getElementById("stream-rows"), state = document.getElementById("stream-state"), stop = document.getElementById("stream-stop");
		let source = null;
		const tellStream = (text, kind) => {
			state.hidden = false;
			state.className = "verdict " + kind;
			state.textContent = text;
		};
		const end = () => {
			if (source) source.close();
			source = null;
			stop.hidden = true;
		};
		function add(...cells) {
			document.getElementById("stream-empty").hidden = true;
			document.getElementById("stream-table").hidden = false;
			const row = document.createElement("tr");
			for (const [label, text] of cells) {
				const cell = document.createElement("td");
				cell.dataset.label = label;
				if (label === "Content") cell.className = "wide mono";
				cell.textContent = text;
				row.append(cell);
			}
			rows.prepend(row);
			while (rows.children.length > most) rows.lastElementChild.remove();
		}
		form.addEventListener("submit", (e) => {
			e.preventDefault();
			end();
			rows.replaceChildren();
			const topic = form.elements.topic.value.trim();
			const path = topic.includes("//") ? encodeURIComponent(topic) : topic.split("/").map(encodeURIComponent).join("/");
			const from = new EventSource(form.dataset.base + path + "?start=" + form.elements.start.value);
			source = from;
			stop.hidden = false;
			tellStream("Asking for the stream", "idle");
			from.onopen = () => tellStream("Reading. New messages appear on top.", "good");
			from.onmessage = (m) => {
				const d = JSON.parse(m.data);
				let text = d.body ?? d.body_base64 ?? "(" + d.size + " bytes: too long for an event, which has a link to it instead)";
				if (text.length > longest) text = text.slice(0, longest) + "…";
				add(["Message", d.id], ["When", exact.format(Date.parse(d.time))], ["Type", d.content_type || "–"], ["Content", text]);
			};
			from.addEventListener("gap", (m) => add(["Message", "gap"], ["When", ""], ["Type", ""], ["Content", m.data]));
			from.addEventListener("end", (m) => tellStream("The stream has ended: " + JSON.parse(m.data).reason, "warn"));
			from.onerror = () => {
				if (from !== source) return;
				if (from.readyState !== EventSource.CLOSED) {
					tellStream("Reconnecting; it goes on with the message after the last one.", "warn");
					return;
				}
				end();
				tellStream("It cannot be read: there is no such topic, you may not read it, or too many streams are open.", "bad");
			};
		});
		stop.addEventListener("click", () => {
			end();
			tellStream("Stopped.", "idle");
		});
		window.addEventListener("pagehide", end);
	}
	const trial = document.getElementById("try-stream");
	if (trial) tryStream(trial);

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
