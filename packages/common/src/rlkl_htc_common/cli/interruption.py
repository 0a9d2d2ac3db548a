"""Ctrl-C, SIGTERM and SIGHUP: answered at once, in one sentence, with an exit code that names the signal (128 + its number).

What the first signal does depends on what the process is at; of nested phases the innermost counts:

none (modules are imported, say)    the process ends
`stoppable`                         KeyboardInterrupt is raised
`finishing`                         an event is set, which a loop looks at after each step, to save and to raise then

A second signal ends the process in every phase. The sentence is written by a thread of its own, so that a main thread that is
in a long call of torch or of a tokenizer need not come back first.

Imports nothing that takes time, so that commands can call `answer_signals` before they import anything that does.
"""

import atexit
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NAMES = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "interrupted by SIGTERM",
    signal.SIGHUP: "interrupted by SIGHUP",
}
KEPT = "the same command goes on from what was finished or saved before."
ECHO = 0.5  # seconds in which a signal may come twice that was sent once: by a terminal and a shell, by `timeout`, by torchrun


class _Phase:
    """What the first signal does.

    Args: event: is set; None to raise KeyboardInterrupt. what: is finished then. act: is called.
    """

    def __init__(self, event: threading.Event | None = None, what: str = "", act: Callable[[], object] = lambda: None) -> None:
        self.event, self.what, self.act = event, what, act


class _Answering:
    """How this process answers signals. Args: speaker: the name of the program; None for a process that others speak for."""

    def __init__(self, speaker: str | None) -> None:
        self.speaker = speaker if os.environ.get("RANK", "0") == "0" else None  # one of several processes speaks
        self.phases: list[_Phase] = []
        self.first: int | None = None  # the first signal that the main thread took
        self._came: tuple[int, float] | None = None  # the first signal and when it came, whoever noticed
        self._told = self._ending = False
        self._telling = threading.RLock()
        self._before: dict[int, signal._HANDLER] = {}
        self._pipe: tuple[int, int] | None = None
        self._lost = sys.unraisablehook

    def start(self, answered: tuple[int, ...], watch: bool) -> None:
        """Args: answered: signals, of which those stay ignored that are; watch: start the thread that speaks."""
        if watch:
            self._pipe = reading, writing = os.pipe()
            os.set_blocking(writing, False)
            signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(reading,), daemon=True, name="signals").start()
        sys.unraisablehook = self._not_lost
        for number in answered:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a job in the background
                self._before[number] = signal.signal(number, self._handle)

    def stop(self) -> None:
        """Undo `start`."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._lost
        if self._pipe is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._pipe[1])  # at which the thread ends

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, as soon as it runs Python code."""
        if self.first is not None:
            self._again(number)
            return
        self._note(number)  # before `first`: a terminal that closes sends two, and the second may come between any two lines
        self.first = number
        phase = self._phase()
        self.tell(number, phase)
        if phase is None:
            os._exit(128 + number)
        if phase.event is None:
            raise KeyboardInterrupt
        phase.event.set()
        phase.act()

    def _watch(self, reading: int) -> None:
        """In the thread: whenever a signal comes, also while the main thread does not run Python code."""
        seen = False
        while numbers := os.read(reading, 64):
            at_once = not seen  # this thread may be late: what it reads with the first came with the first
            for number in filter(self._before.__contains__, numbers):
                if seen:
                    self._again(number, at_once)
                elif self.first is None:  # else the main thread was quicker
                    self._note(number)
                    phase = self._phase()
                    self.tell(number, phase)
                    if phase is None:
                        os._exit(128 + number)
                seen = True
        os.close(reading)

    def _note(self, number: int) -> None:
        if self._came is None:
            self._came = number, time.monotonic()

    def _again(self, number: int, at_once: bool = False) -> None:
        """At a second signal: end the process, where others do not speak for it and it is not the first one's echo."""
        assert self._came is not None
        first, when = self._came
        pressed_twice = number == first == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ
        if self._pipe is not None and (pressed_twice or (not at_once and time.monotonic() - when >= ECHO)):
            self._end(number)

    def _end(self, number: int) -> None:
        """Say so and end the process; both threads may come here, of which the second waits for the end."""
        self._telling.acquire()
        if not self._ending:
            self._ending = True
            self._write("stopped at once; what was finished or saved before is kept.")
        _kill_children()
        os._exit(128 + number)

    def _phase(self) -> _Phase | None:
        return self.phases[-1] if self.phases else None

    def tell(self, number: int, phase: _Phase | None) -> None:
        """Say once what becomes of a signal; who comes second waits until it is said."""
        with self._telling:
            if self._told:
                return
            name = NAMES[signal.Signals(number)]
            if phase is None or phase.event is None:
                self._write(f"{name}; {KEPT}")
            else:
                again = "a second Ctrl-C" if number == signal.SIGINT else "a second signal"
                self._write(f"{name}: {phase.what}, from where the same command goes on; {again} stops at once.")
            self._told = True
            if number == signal.SIGHUP:
                _let_go_of_terminal()

    def _write(self, sentence: str) -> None:
        if self.speaker is None:
            return
        bars = getattr(getattr(sys.modules.get("tqdm"), "tqdm", None), "_instances", ())
        begun = len(bars) > 0 or os.isatty(2)  # a line of a progress bar, or the ^C that a terminal shows
        text = f"{chr(10) if begun else ''}{self.speaker}: {sentence}\n"
        with suppress(OSError):  # nobody may be there to read it
            os.write(2, text.encode(errors="replace"))

    def _not_lost(self, error: "sys.UnraisableHookArgs") -> None:
        """KeyboardInterrupt may be raised where Python ignores exceptions, in a finaliser, say."""
        if self.first is not None and issubclass(error.exc_type, KeyboardInterrupt):
            os._exit(128 + self.first)
        self._lost(error)


_answering: _Answering | None = None


def answer_signals(program: str) -> None:
    """Answer signals from here to the end of the process. Args: program: its name, which the sentence begins with."""
    if _answering is None:
        atexit.register(_ignore_signals)  # first to be registered, last to be called: the last milliseconds are safe
        _start(_Answering(program), SIGNALS, watch=True)


@contextmanager
def answering(program: str) -> Iterator[None]:
    """Answer signals inside; where they are answered already, nothing changes. Args: see `answer_signals`."""
    global _answering
    if _answering is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    mine = _Answering(program)
    _start(mine, SIGNALS, watch=True)
    try:
        yield
    finally:
        mine.stop()
        _answering = None


def answer_as_worker() -> None:
    """In a process that works for another one: SIGTERM is answered, without a word; the other one sees to the other signals.

    Such a process is started inside `kept_from_children`; SIGTERM ends it until it calls this.
    """
    if _answering is None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
        _start(_Answering(None), (signal.SIGTERM,), watch=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Inside, Ctrl-C and SIGHUP do not reach processes that are started; another thread takes them for this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, the first signal raises KeyboardInterrupt."""
    with _in_phase(_Phase()):
        yield


@contextmanager
def finishing(
    what: str = "finishing the current step and saving a checkpoint", act: Callable[[], object] = lambda: None
) -> Iterator[threading.Event]:
    """Inside, the first signal sets the event that is given, so that nothing is cut in two; the end of the block raises then.

    Where no command answers signals, in somebody's notebook, say, this holds for Ctrl-C, and the second one acts as usual.

    Args:
        what: is done at a signal; for the sentence.
        act: called at a signal.

    Raises:
        KeyboardInterrupt: at the end of the block, if a signal came and nothing else was raised.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    with _in_phase(_Phase(event, what, act)) if _answering is not None else _first_ctrl_c_sets(event, act):
        yield event
    if event.is_set():
        raise KeyboardInterrupt


def received() -> int | None:
    """The first signal that came, None if none did."""
    return None if _answering is None else _answering.first


def exit_code() -> int:
    """What an interrupted process is to exit with, now: no worker is left behind. Says so where no signal did."""
    _kill_children()
    number = received() or signal.SIGINT
    if _answering is not None:
        _answering.tell(number, None)
    return 128 + number


def _start(answering: _Answering, answered: tuple[int, ...], watch: bool) -> None:
    global _answering
    _answering = answering
    answering.start(answered, watch)


@contextmanager
def _in_phase(phase: _Phase) -> Iterator[None]:
    if _answering is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    phases = _answering.phases
    phases.append(phase)
    try:
        yield
    finally:
        phases.remove(phase)


@contextmanager
def _first_ctrl_c_sets(event: threading.Event, act: Callable[[], object]) -> Iterator[None]:
    previous = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        event.set()
        act()

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _kill_children() -> None:
    """Kill worker processes, of multiprocessing's or of joblib's pools."""
    multiprocessing = sys.modules.get("multiprocessing")
    for child in () if multiprocessing is None else multiprocessing.active_children():
        with suppress(Exception):  # it may just have ended
            child.kill()


def _let_go_of_terminal() -> None:
    """Writing to a terminal that is gone fails, and would take the training with it before it has saved."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(output).st_mode):
                os.dup2(nowhere, output)
    os.close(nowhere)


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
