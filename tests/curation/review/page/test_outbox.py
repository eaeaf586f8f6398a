"""No decision is forgotten before the server has acknowledged it."""

from __future__ import annotations

from typing import Any

SERVER = """
  const { Outbox } = await import("/static/outbox.js");
  const { ApiError } = await import("/static/api.js");
  const sent = [], answers = [];  // an answer each, then all is well
  let n = 100;
  const send = async (event) => {
    sent.push(structuredClone(event));
    const answer = answers.shift();
    if (answer) throw new ApiError(...answer);
    n += 1;
    return { event: { n, at: "" }, region: { region_id: event.region_id ?? "made-by-the-server" }, qc: null };
  };
  const event = (event_id, more = {}) => ({
    event_id, subject: "region", frame_id: "f", region_id: "r", action: "accept", reasons: [], expected: 1,
    reading: "first", ...more,
  });
  const until = async (met) => { while (!met()) await new Promise((resolve) => setTimeout(resolve, 5)); };
"""


def run(modules: Any, body: str) -> Any:
    return modules.evaluate(f"async () => {{ {SERVER} {body} }}")


def test_a_decision_without_an_answer_is_sent_again_as_the_same_event(modules: Any) -> None:
    sent, waiting, left = run(
        modules,
        """
        answers.push([0, "no_answer", "gone"], [503, "busy", "busy"]);
        const outbox = new Outbox(send);
        outbox.add(event("e1"), "r");
        await until(() => outbox.failure);
        const waiting = outbox.unsaved;
        outbox.retry();
        await until(() => !outbox.unsaved);
        return [sent.map((one) => one.event_id), waiting, outbox.unsaved];
        """,
    )
    assert sent == ["e1", "e1", "e1"]
    assert (waiting, left) == (1, 0)


def test_decisions_are_sent_in_their_order_and_follow_each_other(modules: Any) -> None:
    sent = run(
        modules,
        """
        answers.push([0, "no_answer", "gone"]);
        const outbox = new Outbox(send);
        for (const id of ["e1", "e2", "e3"]) outbox.add(event(id), "r");
        await until(() => outbox.failure);
        outbox.retry();
        await until(() => !outbox.unsaved);
        return sent.map((one) => [one.event_id, one.expected]);
        """,
    )
    assert sent == [["e1", 1], ["e1", 1], ["e2", 101], ["e3", 102]]


def test_a_reading_that_decides_nothing_does_not_follow_the_decisions(modules: Any) -> None:
    sent = run(
        modules,
        """
        const outbox = new Outbox(send);
        outbox.add(event("e1"), "r");
        outbox.add(event("e2", { reading: "repeat", expected: null }), "r");
        outbox.add(event("e3"), "r");
        await until(() => !outbox.unsaved);
        return sent.map((one) => [one.event_id, one.expected]);
        """,
    )
    assert sent == [["e1", 1], ["e2", None], ["e3", 101]]


def test_a_new_mask_decided_twice_becomes_one_region(modules: Any) -> None:
    sent = run(
        modules,
        """
        const outbox = new Outbox(send);
        outbox.add(event("e1", { region_id: null, action: "draw", expected: null }), "new-1");
        outbox.add(event("e2", { region_id: null, action: "draw", expected: null }), "new-1");
        await until(() => !outbox.unsaved);
        return sent.map((one) => [one.region_id, one.action, one.expected]);
        """,
    )
    assert sent == [[None, "draw", None], ["made-by-the-server", "edit", 101]]


def test_a_decision_counts_while_its_mask_is_coded_and_nothing_overtakes_it(modules: Any) -> None:
    before, drained, sent = run(
        modules,
        """
        const outbox = new Outbox(send);
        let coded;
        outbox.add(event("e1", { action: "edit" }), "r", false, new Promise((resolve) => { coded = resolve; }));
        outbox.add(event("e2", { action: "reject" }), "r");
        const drained = outbox.drained();
        await new Promise((resolve) => setTimeout(resolve, 30));
        const before = [outbox.unsaved, sent.length];
        coded("the mask");
        return [before, await drained, sent.map((one) => [one.event_id, one.mask, one.expected])];
        """,
    )
    assert before == [2, 0]
    assert drained is True
    assert sent == [["e1", "the mask", 1], ["e2", None, 101]]


def test_a_rejection_waits_for_its_reason_and_the_next_decision_sends_it(modules: Any) -> None:
    before, sent = run(
        modules,
        """
        const outbox = new Outbox(send);
        outbox.add(event("e1", { action: "reject" }), "r", true);
        await new Promise((resolve) => setTimeout(resolve, 30));
        const before = sent.length;
        outbox.amend(["too_large"]);
        outbox.add(event("e2", { region_id: "r2" }), "r2");
        await until(() => !outbox.unsaved);
        return [before, sent.map((one) => [one.event_id, one.reasons])];
        """,
    )
    assert before == 0
    assert sent == [["e1", ["too_large"]], ["e2", []]]


def test_a_rejection_without_a_reason_is_sent_after_a_moment(modules: Any) -> None:
    seconds = run(
        modules,
        """
        const outbox = new Outbox(send), start = performance.now();
        outbox.add(event("e1", { action: "reject" }), "r", true);
        await until(() => !outbox.unsaved);
        return (performance.now() - start) / 1000;
        """,
    )
    assert 2 < seconds < 4


def test_what_the_server_refuses_stays_and_does_not_hold_up_the_rest(modules: Any) -> None:
    refused, left = run(
        modules,
        """
        answers.push([400, "bad_mask", "The mask is empty."]);
        const outbox = new Outbox(send), refused = [];
        outbox.addEventListener("refused", ({ detail }) => refused.push(detail.event.event_id));
        outbox.add(event("e1"), "r");
        outbox.add(event("e2", { region_id: "r2" }), "r2");
        await until(() => outbox.unsaved === 1);
        return [refused, outbox.entries.map(({ event, state, message }) => [event.event_id, state, message])];
        """,
    )
    assert refused == ["e1"]
    assert left == [["e1", "refused", "The mask is empty."]]


def test_what_another_reviewer_has_not_saved_is_kept_and_holds_up_nobody(modules: Any) -> None:
    drained, left, sent = run(
        modules,
        """
        answers.push([422, "other_reviewer", "This is anna's."]);
        const outbox = new Outbox(send);
        outbox.add(event("e1", { reviewer: "anna" }), "r");
        await until(() => outbox.failure);
        outbox.add(event("e2", { reviewer: "bob" }), "r");
        const drained = await outbox.drained();
        const left = outbox.entries.map(({ event, message }) => [event.event_id, message]);
        outbox.retry();
        await until(() => !outbox.unsaved);
        return [drained, left, sent.map((one) => [one.event_id, one.reviewer])];
        """,
    )
    assert drained is True
    assert left == [["e1", "This is anna's."]]
    assert sent == [["e1", "anna"], ["e2", "bob"], ["e1", "anna"]]


def test_of_two_people_one_can_insist_with_a_new_event_that_follows_the_others(modules: Any) -> None:
    first, second, left = run(
        modules,
        """
        answers.push([409, "changed_meanwhile", "Somebody else decided.", { region: { event: 77 } }]);
        const outbox = new Outbox(send);
        outbox.add(event("e1"), "r");
        await until(() => outbox.entries[0]?.state === "conflict");
        outbox.insist("e1", 77);
        await until(() => !outbox.unsaved);
        return [sent[0], sent[1], outbox.unsaved];
        """,
    )
    assert first["event_id"] != second["event_id"]
    assert second["expected"] == 77
    assert left == 0


def test_an_answer_that_makes_no_sense_is_none(modules: Any) -> None:
    sent, state, left = run(
        modules,
        """
        const outbox = new Outbox((event) => sent.length ? send(event) : sent.push(event));
        outbox.add(event("e1"), "r");
        await until(() => outbox.failure);
        const { state } = outbox.failure;
        outbox.retry();
        await until(() => !outbox.unsaved);
        return [sent.map((one) => one.event_id), state, outbox.unsaved];
        """,
    )
    assert sent == ["e1", "e1"]
    assert (state, left) == ("retrying", 0)


def test_who_is_refused_is_not_signed_out(modules: Any) -> None:
    signed_out = run(
        modules,
        """
        answers.push([401, "no_token", "Who are you?"], [422, "bad_mask", "The mask is empty."]);
        const outbox = new Outbox(send), signedOut = [];
        outbox.add(event("e1"), "r");
        await until(() => outbox.failure);
        signedOut.push(outbox.signedOut);
        await until(() => outbox.failure?.state === "refused");
        return [...signedOut, outbox.signedOut];
        """,
    )
    assert signed_out == [True, False]


def test_answers_that_the_server_did_not_give_can_be_asked_for_again(modules: Any) -> None:
    told = modules.evaluate(
        """async () => {
          const { getSession, postDecision } = await import("/static/api.js");
          const failure = (answer) => answer.then(() => null, ({ status, passing }) => [status, passing]);
          return [await failure(getSession()), await failure(postDecision({}))];
        }"""
    )
    assert told == [[401, True], [0, True]]  # a page to sign in on, and half of an answer


def test_what_was_not_saved_survives_a_reload(modules: Any) -> None:
    kept, sent = run(
        modules,
        """
        const kept = new Map();
        const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text) };
        answers.push([401, "token", "Who are you?"]);
        const before = new Outbox(send, storage);
        before.add(event("e1"), "r");
        await until(() => before.signedOut);
        sent.length = 0;
        const after = new Outbox(send, storage);
        const waiting = after.unsaved;
        after.start();
        await until(() => !after.unsaved);
        return [waiting, sent.map((one) => one.event_id)];
        """,
    )
    assert kept == 1
    assert sent == ["e1"]
