"""Which run is next, and what becomes of those that fail or are another's."""

import pytest
from factories import jobs_of

from dg_batchformer.jobs.folder import write
from dg_batchformer.jobs.launchers import Launcher
from dg_batchformer.jobs.launchers.local import Queue
from dg_batchformer.runs import claim
from dg_batchformer.runs.files import DONE


@pytest.fixture
def jobs(tmp_path):
    jobs = jobs_of(tmp_path / "sweep")
    write(jobs)
    return jobs


def queue_of(jobs, wait=True, **options):
    """A queue and the list of what it reports: job, error, whether it goes back, whether it was elsewhere."""
    reported = []

    def report(ended):
        reported.append((ended.job, ended.error, ended.again, ended.elsewhere))

    return Queue(jobs, Launcher(**options), report, wait=wait), reported


def claim_elsewhere(job, number=1):
    path = job.folder / f"claim-{number}.json"
    path.write_text('{"host": "another", "pid": 1, "since": 0.0}')
    return path


def test_each_run_in_order_and_once(jobs):
    queue, reported = queue_of(jobs)
    given = []
    while task := queue.next():
        given.append(task.job)
        queue.ended(task, 1.0, None, may_pass=True)
    assert given == jobs
    assert reported == [(job, None, False, False) for job in jobs]
    assert not queue.is_open


def test_a_failed_run_is_tried_again_after_the_others(jobs):
    queue, reported = queue_of(jobs, retries=2)
    given = []
    while task := queue.next():
        given.append(task.job)
        queue.ended(task, 1.0, "no luck" if task.job is jobs[0] else None, may_pass=True)
    assert given == [*jobs, jobs[0], jobs[0]]
    assert [one for one in reported if one[1]] == [(jobs[0], "no luck", again, False) for again in (True, True, False)]


def test_what_would_fail_again_is_not_tried_again(jobs):
    queue, reported = queue_of(jobs, retries=2)
    queue.ended(queue.next(), 1.0, "diverged", may_pass=False)
    assert reported == [(jobs[0], "diverged", False, False)]
    assert [task.job for task in queue.waiting] == jobs[1:]


def test_without_keep_going_a_failure_is_the_last_beginning(jobs):
    queue, _ = queue_of(jobs, retries=1, keep_going=False)
    queue.ended(queue.next(), 1.0, "no luck", may_pass=True)
    assert queue.is_open  # it is tried again
    while task := queue.next():
        queue.ended(task, 1.0, "no luck" if task.job is jobs[0] else None, may_pass=True)
    assert not queue.is_open
    queue, reported = queue_of(jobs, keep_going=False)
    queue.ended(queue.next(), 1.0, "no luck", may_pass=True)
    assert not queue.is_open
    assert queue.next() is None
    assert len(reported) == 1


def test_another_launchers_runs_are_left_to_it(jobs):
    claim_elsewhere(jobs[0])
    queue, reported = queue_of(jobs)
    assert queue.next().job is jobs[1]
    queue.waiting.clear()
    queue.look()
    assert queue.is_open
    assert queue.next() is None
    (jobs[0].folder / DONE).touch()
    queue.look()
    assert reported == [(jobs[0], None, False, True)]
    assert not queue.is_open


def test_what_another_launcher_ended_before_it_was_its_turn_is_not_run_again(jobs):
    jobs[1].folder.mark_failed("an earlier launch's failure, which this one is for")
    queue, reported = queue_of(jobs)
    (jobs[0].folder / DONE).touch()
    jobs[2].folder.mark_failed("no luck there")
    assert queue.next().job is jobs[1]
    assert queue.next() is None
    assert reported == [(jobs[0], None, False, True), (jobs[2], "no luck there", False, True)]


def test_what_failed_elsewhere_may_be_tried_here(jobs):
    queue, reported = queue_of(jobs[:1], retries=1)
    jobs[0].folder.mark_failed("no luck there")
    assert queue.next().job is jobs[0]
    assert reported == [(jobs[0], "no luck there", True, True)]


def test_a_dead_launchers_run_is_taken_over(jobs, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(claim.time, "monotonic", lambda: now[0])
    path = claim_elsewhere(jobs[0])
    queue, _ = queue_of(jobs[:1])
    assert queue.next() is None
    now[0] += claim.LEASE_SECONDS + 1
    queue.look()
    task = queue.next()
    assert (task.job, task.lost_claim) == (jobs[0], path.name)
    # Somebody was faster: its claim is not the one that was found lost.
    queue.elsewhere.append(task)
    claim_elsewhere(jobs[0], 2)
    queue.look()
    assert queue.next() is None


def test_the_claim_that_was_judged_is_the_one_that_is_named(jobs, monkeypatch):
    """And not one that another launcher has made meanwhile, or its run would be taken from it."""
    (jobs[0].folder / "claim-1.ended").touch()
    queue, _ = queue_of(jobs[:1])
    judged = queue.watch.is_free

    def is_free(path):
        free = judged(path)
        claim_elsewhere(jobs[0], 2)
        return free

    monkeypatch.setattr(queue.watch, "is_free", is_free)
    assert queue.next().lost_claim == "claim-1.ended"
    with pytest.raises(claim.TakenError):
        jobs[0].folder.claimed("claim-1.ended").__enter__()


def test_a_folder_that_is_away_for_a_while_ends_no_launcher(jobs, monkeypatch):
    queue, reported = queue_of(jobs[:1])

    def away(folder):
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr("dg_batchformer.runs.folder.latest", away)
        assert queue.next() is None
        queue.look()
        assert queue.is_open
    queue.look()
    assert queue.next().job is jobs[0]
    assert reported == []


def test_what_runs_when_the_queue_is_closed_is_not_tried_again(jobs):
    queue, reported = queue_of(jobs, retries=1, keep_going=False)
    first, second = queue.next(), queue.next()
    queue.ended(first, 1.0, "diverged", may_pass=False)
    queue.ended(second, 1.0, "no luck", may_pass=True)
    assert [one[2] for one in reported] == [False, False]
    assert queue.next() is None
    assert not queue.is_open


def test_without_waiting_it_ends_when_the_others_are_seen_to_live(jobs, monkeypatch):
    """Or a dead launcher's run would be nobody's."""
    import os

    path = claim_elsewhere(jobs[0])
    queue, _ = queue_of(jobs[:1], wait=False)
    assert queue.next() is None
    queue.look()
    assert queue.is_open
    os.utime(path, (1.0, 1.0))
    queue.look()
    assert not queue.is_open
