// Requests to the server. Every failure is an ApiError that says what a person can do.
import { text } from "./strings.js";

export class ApiError extends Error {
  /** @param {number} status  0 where no answer came */
  constructor(status, code, message, body = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.body = body;
  }

  /** The same request may succeed later, unchanged. */
  get passing() {
    return this.status === 0 || this.status === 401 || this.status === 408 || this.status === 429 || this.status >= 500;
  }

  get gone() {
    return this.status === 404 || this.status === 410;
  }
}

const base = new URL("api/", document.baseURI);

export const getSession = () => json("session");

export function getQueue({ kind, structure, plane, after, limit }) {
  const query = new URLSearchParams({ kind, limit: String(limit) });
  if (structure) query.set("structure", structure);
  if (plane) query.set("plane", plane);
  if (after) query.set("after", after);
  return json(`queue?${query}`);
}

export const getFrame = (id) => json(`frames/${encodeURIComponent(id)}`);

export const getImage = async (id) => (await request(`frames/${encodeURIComponent(id)}/image`)).blob();

export const getHistory = (id) => json(`history/${encodeURIComponent(id)}`);

export const postProposals = (id, prompts) => post(`frames/${encodeURIComponent(id)}/proposals`, prompts);

export const postEmbed = (id) => request(`frames/${encodeURIComponent(id)}/embed`, asPost({}));

export const postDecision = (event) => post("decisions", event);

export const postUndo = (eventId, reviewer) => post("undo", { event_id: eventId, reviewer });

export const postRedo = (eventId, reviewer) => post("redo", { event_id: eventId, reviewer });

async function json(path, options) {
  const answer = await request(path, options);
  // The server sends its own pages nowhere else: this is where a proxy asks who one is.
  if (answer.redirected || answer.headers.get("Content-Type")?.startsWith("text/html"))
    throw new ApiError(401, "signed_out", text.notSignedIn);
  try {
    return await answer.json();
  } catch {
    throw new ApiError(0, "no_answer", text.noAnswer); // it was cut off
  }
}

const post = (path, body) => json(path, asPost(body));

function asPost(content) {
  const body = JSON.stringify(content);
  const keepalive = body.length < 60_000; // it is sent even if the page is closed; browsers take no more than 64 kB
  return { method: "POST", headers: { "Content-Type": "application/json", "X-Sono-Review": "1" }, body, keepalive };
}

async function request(path, options = {}) {
  let answer;
  try {
    answer = await fetch(new URL(path, base), { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new ApiError(0, "no_answer", text.noAnswer);
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({})); // a proxy's own page, say
  throw new ApiError(answer.status, body.error ?? "failed", body.message ?? text.failed(answer.status), body);
}
