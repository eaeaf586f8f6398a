"""The routes of the review page. Every error is JSON: a code, and a sentence to show."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from sono.curation.review.queue.queue_file import Kind
from sono.curation.review.readings import mixed
from sono.manifests.errors import UserError
from sono.manifests.journal import Journal, NothingToUndoError
from sono.manifests.journal_events import ChangedMeanwhileError, Event
from sono.manifests.vocabulary import Vocabulary
from sono.manifests.workspace import Workspace

from .access import Access, AccessCheck
from .decisions import Decisions, RefusedError, program
from .frame_view import FrameGoneError, FrameReader, region_view, verdict_view
from .history import history_of
from .proposals import Proposals
from .requests import FRAME_REASONS, REGION_REASONS, DecisionRequest, OwnRequest, PromptRequest, StepRequest
from .rereading import Rereading
from .sessions import Sessions
from .work import Work

_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MOST_IN_QUEUE = 64
AGAIN = ("second", "repeat")
_AGAIN_AFTER = 5  # frames that are read first, between two that are read again

Body = TypeVar("Body", bound=BaseModel)
Own = TypeVar("Own", bound=OwnRequest)


@dataclass
class Review:
    """What the routes work with."""

    workspace: Workspace
    vocabulary: Vocabulary
    journal: Journal
    reader: FrameReader
    decisions: Decisions
    work: Work
    proposals: Proposals | None
    sessions: Sessions
    rereading: Rereading

    def progress(self, reviewer: str) -> dict[str, object]:
        return {
            "decided": self.work.decided,
            "left": self.work.left("masks"),
            "left_frames": self.work.left("frames"),
            "to_adjudicate": self.rereading.count(reviewer, ("adjudication",)),
            **self.sessions.progress(reviewer),
        }

    def region(self, frame_id: str, region_id: str, reviewer: str) -> dict[str, object] | None:
        """A region as the reviewer may see it now; None if there is none any more."""
        return next((each for each in self.regions(frame_id, reviewer) if each["region_id"] == region_id), None)

    def regions(self, frame_id: str, reviewer: str) -> list[dict[str, object]]:
        """The regions of a frame as the reviewer may see them."""
        frame, queued = self.reader.frame(frame_id), self.work.frame(frame_id)
        p_bad = {region.region_id: region.p_bad for region in queued.regions} if queued else {}
        return [
            {**region_view(region_id, seen, frame), "p_bad": p_bad.get(region_id)}
            for region_id, subject in self.reader.regions(frame_id).items()
            if subject.row is not None
            and (seen := self.rereading.region(region_id, subject, reviewer)).subject.row is not None
        ]

    def after(self, event: Event, reviewer: str) -> dict[str, object]:
        """What the page needs to know after a decision, an undo or a redo was stored."""
        if self.work.add(event):
            self.sessions.count(reviewer, -1 if event.action == "undo" else 1)
        if event.region_id is not None:
            self.rereading.note(event.region_id)
        undo, redo = self.journal.undo_state(reviewer)
        return {
            "event": {"n": event.n, "at": event.at.isoformat(), "action": event.action},
            "frame_id": event.frame_id,
            "region_id": event.region_id,
            "region": self.region(event.frame_id, event.region_id, reviewer) if event.region_id else None,
            "qc": verdict_view(self.reader.verdict(event.frame_id)) if event.subject == "frame" else None,
            "undo": undo,
            "redo": redo,
            "progress": self.progress(reviewer),
        }


def review_app(review: Review, access: Access) -> Starlette:
    """The application: the page, and what it asks for."""
    page = Path(str(resources.files("sono.curation.review.page")))

    async def index(request: Request) -> Response:
        del request
        return FileResponse(page / "index.html", media_type="text/html")

    routes = [
        Route("/", index),
        _get("/api/session", review, _session),
        _get("/api/queue", review, _queue),
        _get("/api/frames/{frame_id}", review, _frame),
        Route("/api/frames/{frame_id}/image", _handled(review, _image)),
        _post("/api/frames/{frame_id}/proposals", review, _propose),
        _post("/api/frames/{frame_id}/embed", review, _embed),
        _post("/api/decisions", review, _decide),
        _post("/api/undo", review, _undo),
        _post("/api/redo", review, _redo),
        _get("/api/history/{subject_id}", review, _history),
        *_assets(page),
    ]
    return Starlette(routes=routes, middleware=[Middleware(AccessCheck, access=access)])


def _assets(page: Path) -> list[Route]:
    """The page's own files, and none of the package around them: in memory, for it asks for dozens before it starts."""

    def asset(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            del request
            return Response(content, media_type=media_type)

        return endpoint

    return [
        Route(f"/static/{path.relative_to(page).as_posix()}", asset(path.read_bytes(), _MEDIA_TYPES[path.suffix]))
        for path in sorted(page.rglob("*"))
        if path.suffix in _MEDIA_TYPES
    ]


@dataclass(frozen=True)
class Asked:
    """A request: who asks, the parts of the path and the query, and the body of a POST."""

    reviewer: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes

    def read(self, model: type[Body]) -> Body:
        """The body, checked.

        Raises:
            RefusedError: it is not what the page sends.
        """
        try:
            return model.model_validate_json(self.body)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise RefusedError("bad_request", f"Not understood: {place}: {first['msg']}.") from error

    def read_own(self, model: type[Own]) -> Own:
        """The body, checked, of who asks: on a page that was left open, somebody else may have signed in since.

        Raises:
            RefusedError: it is not what the page sends, or it is somebody else's.
        """
        own = self.read(model)
        if own.reviewer not in (None, self.reviewer):
            raise RefusedError(
                "other_reviewer",
                f"This is {own.reviewer}'s, but you are signed in as {self.reviewer}. "
                f"Sign in as {own.reviewer}, then try again.",
            )
        return own


def _session(review: Review, asked: Asked) -> object:
    undo, redo = review.journal.undo_state(asked.reviewer)
    vocabulary = review.vocabulary
    return {
        "reviewer": asked.reviewer,
        "workspace": review.workspace.path.resolve().name,
        "structures": [{"id": each.id, "name": each.name} for each in vocabulary.structures.values()],
        "planes": [
            {"id": each.id, "name": each.name, "structures": each.structures} for each in vocabulary.planes.values()
        ],
        "reasons": {
            "region": [{"id": reason, "name": name} for reason, name in REGION_REASONS.items()],
            "frame": [{"id": reason, "name": name} for reason, name in FRAME_REASONS.items()],
        },
        "backend": review.proposals.describes if review.proposals else None,
        "undo": undo,
        "redo": redo,
        "progress": review.progress(asked.reviewer),
    }


def _queue(review: Review, asked: Asked) -> object:
    if not asked.query.get("after"):
        review.rereading.starts_over(asked.reviewer)
    if asked.query.get("kind") == "adjudication":
        return _to_adjudicate(review, asked)
    kind = next((kind for kind in get_args(Kind) if kind == asked.query.get("kind", "masks")), None)
    if kind is None:
        raise RefusedError("bad_request", "There is no such queue.")
    structure, plane = asked.query.get("structure") or None, asked.query.get("plane") or None
    try:
        limit = min(max(int(asked.query.get("limit", "8")), 1), _MOST_IN_QUEUE)
        page = review.work.page(kind, asked.query.get("after") or None, limit, structure, plane)
    except ValueError as error:
        raise RefusedError("bad_request", "This is no place in the queue.") from error
    items = [
        _item(frame.frame_id, [region.region_id for region in frame.regions], "first", frame.p_bad)
        for frame in page.frames
    ]
    left, cursor = review.work.left(kind, structure, plane), page.cursor
    if kind == "masks":
        owed = review.rereading.count(asked.reviewer, AGAIN, structure)
        fit = len(items) // _AGAIN_AFTER if items else limit
        again = review.rereading.next(asked.reviewer, fit, AGAIN, structure)
        items = mixed(items, [_item(each.frame_id, [each.region_id], each.reading) for each in again], _AGAIN_AFTER)
        left += owed
        if owed and items:
            cursor = cursor or review.work.end  # after the last first reading come those that have not fit between
    return {"items": items, "cursor": cursor, "left": left}


def _to_adjudicate(review: Review, asked: Asked) -> object:
    wanted = ("adjudication",)
    structure = asked.query.get("structure") or None
    owed = review.rereading.next(asked.reviewer, _MOST_IN_QUEUE, wanted, structure)
    items = [_item(each.frame_id, [each.region_id], each.reading) for each in owed]
    return {"items": items, "cursor": None, "left": review.rereading.count(asked.reviewer, wanted, structure)}


def _item(frame_id: str, regions: list[str], reading: str, p_bad: float | None = None) -> dict[str, object]:
    return {"frame_id": frame_id, "regions": regions, "reading": reading, "p_bad": p_bad}


def _frame(review: Review, asked: Asked) -> object:
    frame_id = asked.path["frame_id"]
    return {**review.reader.view(frame_id), "regions": review.regions(frame_id, asked.reviewer)}


def _image(review: Review, asked: Asked) -> Response:
    return Response(review.reader.image(asked.path["frame_id"]), media_type="image/png")


def _propose(review: Review, asked: Asked) -> object:
    prompts = asked.read(PromptRequest)
    if review.proposals is None:
        raise RefusedError("no_backend", "The server was started without a model: sono-curate review --backend NAME.")
    if prompts.structure not in review.vocabulary.structures:
        raise RefusedError("unknown_structure", f"The vocabulary has no structure {prompts.structure!r}.")
    try:
        return review.proposals.answer(asked.path["frame_id"], prompts)
    except ValueError as error:
        raise RefusedError("bad_prompts", f"The prompts cannot be used: {error}.") from error


def _embed(review: Review, asked: Asked) -> Response:
    if review.proposals is not None:
        review.proposals.embed(asked.path["frame_id"])
    return Response(status_code=202)


def _decide(review: Review, asked: Asked) -> object:
    return review.after(review.decisions.decide(asked.read_own(DecisionRequest), asked.reviewer), asked.reviewer)


def _undo(review: Review, asked: Asked) -> object:
    event = review.journal.undo(asked.reviewer, asked.read_own(StepRequest).event_id, program())
    return review.after(event, asked.reviewer)


def _redo(review: Review, asked: Asked) -> object:
    event = review.journal.redo(asked.reviewer, asked.read_own(StepRequest).event_id, program())
    return review.after(event, asked.reviewer)


def _history(review: Review, asked: Asked) -> object:
    subject_id = asked.path["subject_id"]
    if review.rereading.is_blinded(subject_id, asked.reviewer):
        raise RefusedError("blinded", "You read this mask without knowing what others decided.")
    return {"events": history_of(review.journal, subject_id)}


Handler = Callable[[Review, Asked], object]


def _get(path: str, review: Review, handler: Handler) -> Route:
    return Route(path, _handled(review, handler), methods=["GET"])


def _post(path: str, review: Review, handler: Handler) -> Route:
    return Route(path, _handled(review, handler), methods=["POST"])


def _handled(review: Review, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        asked = Asked(request.state.reviewer, request.path_params, request.query_params, await request.body())
        return await run_in_threadpool(_answered, review, handler, asked)

    return endpoint


def _answered(review: Review, handler: Handler, asked: Asked) -> Response:
    """What a handler returns or raises, as a response."""
    try:
        result = handler(review, asked)
    except RefusedError as error:
        return _error(422, error.code, str(error))
    except FrameGoneError:
        return _error(404, "frame_gone", "This frame is not in the workspace any more. Go on with the next one.")
    except ChangedMeanwhileError as error:
        return _changed(review, error, asked.reviewer)
    except NothingToUndoError:
        return _error(409, "nothing_to_undo", "There is nothing to take back or to repeat.")
    except UserError as error:
        return _error(507, "failed", f"{error.what}{'; ' + error.fix if error.fix else ''}")
    return result if isinstance(result, Response) else JSONResponse(result)


def _changed(review: Review, error: ChangedMeanwhileError, reviewer: str) -> Response:
    latest = error.latest
    if latest is None:
        return _error(409, "changed_meanwhile", "The decision that this one follows was taken back: load it again.")
    message = f"{latest.reviewer} has decided on this meanwhile: {latest.action}."
    more: dict[str, object] = {"region": None, "qc": None}
    if latest.region_id is None:
        more["qc"] = verdict_view(review.reader.verdict(latest.frame_id))
    else:
        more["region"] = review.region(latest.frame_id, latest.region_id, reviewer)
    return _error(409, "changed_meanwhile", message, latest.n, **more)


def _error(status: int, code: str, message: str, event: int | None = None, **more: object) -> Response:
    return JSONResponse({"error": code, "message": message, "event": event, **more}, status_code=status)
