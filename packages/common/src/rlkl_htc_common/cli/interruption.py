"""Ctrl-C, SIGTERM and SIGHUP: one sentence at once, and an exit code of 128 + the number of the signal.

What the first signal does depends on the phase of the process. The innermost phase counts:

none, or `importing`                the process ends
`stoppable`                         KeyboardInterrupt is raised
`finishing`                         an event is set; a loop checks it after each step, saves, and raises

A second signal ends the process in every phase. A separate thread writes the sentence, because the main thread may be in a long
call of torch or of a tokenizer.

This module imports nothing slow, so that commands can call `answer_signals` before their slow imports.
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
KEPT = "the same command continues from finished or saved work."
ECHO = 0.5  # seconds in which one signal may arrive twice: from terminal and shell, from `timeout`, from torchrun


class _Phase:
    """What the first signal does.

    Args: event: set by the signal; None: raise KeyboardInterrupt. what: what is finished first, for the sentence. act: called.
    """

    def __init__(self, event: threading.Event | None = None, what: str = "", act: Callable[[], object] = lambda: None) -> None:
        self.event, self.what, self.act = event, what, act


class _Answering:
    """How this process answers signals. Args: speaker: the name of the program; None for a silent worker process."""

    def __init__(self, speaker: str | None) -> None:
        self.speaker = speaker if os.environ.get("RANK", "0") == "0" else None  # only one of several processes writes
        self.phases: list[_Phase | None] = []
        self.first: int | None = None  # the first signal that the main thread handled
        self._came: tuple[int, float] | None = None  # the first signal in either thread, and when it came
        self._reported = self._ending = False
        self._reporting = threading.RLock()
        self._before: dict[int, signal._HANDLER] = {}
        self._pipe: tuple[int, int] | None = None
        self._lost = sys.unraisablehook

    def start(self, answered: tuple[int, ...], watch: bool) -> None:
        """Args: answered: signals to handle, except those that are ignored now; watch: start the thread that writes."""
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
            os.close(self._pipe[1])  # this ends the thread

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Runs in the main thread, as soon as it executes Python code."""
        if self.first is not None:
            self._again(number)
            return
        self._note(number)  # before `first`: a terminal that closes sends two, and the second may come between any two lines
        self.first = number
        phase = self._phase()
        self.report(number, phase)
        if phase is None:
            os._exit(128 + number)
        if phase.event is None:
            raise KeyboardInterrupt
        phase.event.set()
        phase.act()

    def _watch(self, reading: int) -> None:
        """Runs in the thread: handles signals also while the main thread executes no Python code."""
        seen = False
        while numbers := os.read(reading, 64):
            at_once = not seen  # this thread may be late: signals in one read came together
            for number in filter(self._before.__contains__, numbers):
                if seen:
                    self._again(number, at_once)
                elif self.first is None:  # else the main thread was faster
                    self._note(number)
                    phase = self._phase()
                    self.report(number, phase)
                    if phase is None:
                        os._exit(128 + number)
                seen = True
        os.close(reading)

    def _note(self, number: int) -> None:
        if self._came is None:
            self._came = number, time.monotonic()

    def _again(self, number: int, at_once: bool = False) -> None:
        """End the process at a second signal, unless this is a worker or the signal is an echo of the first."""
        assert self._came is not None
        first, when = self._came
        pressed_twice = number == first == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ
        if self._pipe is not None and (pressed_twice or (not at_once and time.monotonic() - when >= ECHO)):
            self._end(number)

    def _end(self, number: int) -> None:
        """Say so and end the process. If both threads call this, the second one waits."""
        self._reporting.acquire()
        if not self._ending:
            self._ending = True
            self._write("stopped at once; finished and saved work is kept.")
        _kill_children()
        os._exit(128 + number)

    def _phase(self) -> _Phase | None:
        return self.phases[-1] if self.phases else None

    def report(self, number: int, phase: _Phase | None) -> None:
        """Write once what a signal does. A second caller waits until it is written."""
        with self._reporting:
            if self._reported:
                return
            name = NAMES[signal.Signals(number)]
            if phase is None or phase.event is None:
                self._write(f"{name}; {KEPT}")
            else:
                again = "a second Ctrl-C" if number == signal.SIGINT else "a second signal"
                self._write(f"{name}: {phase.what}; the same command continues from there; {again} stops at once.")
            self._reported = True
            if number == signal.SIGHUP:
                _let_go_of_terminal()

    def _write(self, sentence: str) -> None:
        if self.speaker is None:
            return
        bars = getattr(getattr(sys.modules.get("tqdm"), "tqdm", None), "_instances", ())
        begun = len(bars) > 0 or os.isatty(2)  # the line already holds a progress bar, or the ^C of a terminal
        text = f"{chr(10) if begun else ''}{self.speaker}: {sentence}\n"
        with suppress(OSError):  # standard error may be closed
            os.write(2, text.encode(errors="replace"))

    def _not_lost(self, error: "sys.UnraisableHookArgs") -> None:
        """Catch a KeyboardInterrupt that is raised where Python ignores exceptions, e.g. in a finaliser."""
        if self.first is not None and issubclass(error.exc_type, KeyboardInterrupt):
            os._exit(128 + self.first)
        self._lost(error)


_answering: _Answering | None = None


def answer_signals(program: str) -> None:
    """Answer signals until the process ends. Args: program: its name; the sentence begins with it."""
    if _answering is None:
        atexit.register(_ignore_signals)  # registered first, so called last: the last milliseconds are safe
        _start(_Answering(program), SIGNALS, watch=True)


@contextmanager
def answering(program: str) -> Iterator[None]:
    """Answer signals inside the block, unless they are answered already. Args: see `answer_signals`."""
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
    """Answer SIGTERM silently, in a worker process; the parent process handles the other signals.

    Start workers inside `kept_from_children`. Until a worker calls this, SIGTERM ends it.
    """
    if _answering is None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
        _start(_Answering(None), (signal.SIGTERM,), watch=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Keep Ctrl-C and SIGHUP from processes that are started inside; another thread of this process handles them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def importing() -> Iterator[None]:
    """The first signal inside the block ends the process: an exception amid the import of C++ code would abort it."""
    with _in_phase(None):
        yield


@contextmanager
def stoppable() -> Iterator[None]:
    """The first signal inside the block raises KeyboardInterrupt."""
    with _in_phase(_Phase()):
        yield


@contextmanager
def finishing(
    what: str = "finishing the current step and saving a checkpoint", act: Callable[[], object] = lambda: None
) -> Iterator[threading.Event]:
    """The first signal inside the block sets the event, so that the current step can end; the end of the block raises then.

    Where signals are not answered, e.g. in a notebook, this holds for Ctrl-C only, and a second one acts as usual.

    Args:
        what: what is done at a signal, for the sentence.
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
    """The first signal, None if there was none."""
    return None if _answering is None else _answering.first


def caused(error: BaseException) -> bool:
    """Whether an interruption led to this error: code that cleans up after a KeyboardInterrupt may raise another exception."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__cause__ or seen.__context__
    return seen is not None


def exit_code() -> int:
    """The exit code of an interrupted process. Kills its workers, and writes the sentence if no signal has."""
    _kill_children()
    number = received() or signal.SIGINT
    if _answering is not None:
        _answering.report(number, None)
    return 128 + number


def _start(answering: _Answering, answered: tuple[int, ...], watch: bool) -> None:
    global _answering
    _answering = answering
    answering.start(answered, watch)


@contextmanager
def _in_phase(phase: _Phase | None) -> Iterator[None]:
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
    """Kill worker processes of multiprocessing's and joblib's pools."""
    multiprocessing = sys.modules.get("multiprocessing")
    for child in () if multiprocessing is None else multiprocessing.active_children():
        with suppress(Exception):  # it may just have ended
            child.kill()


def _let_go_of_terminal() -> None:
    """Redirect output to a closed terminal: a failed write would end the training before it has saved."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(output).st_mode):
                os.dup2(nowhere, output)
    os.close(nowhere)


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
