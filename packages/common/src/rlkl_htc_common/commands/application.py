"""Entry points: Hydra applications. For bad input they print one sentence and exit with 2."""

import argparse
import dataclasses
import errno
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from difflib import get_close_matches
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import NoReturn

import hydra
import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from rlkl_htc_common.cli import interruption
from rlkl_htc_common.cli import program as this_program
from rlkl_htc_common.cli.grammar import literal
from rlkl_htc_common.cli.plain_text import FOLDERS_OF_HYDRA, TextKey, as_override, text_keys
from rlkl_htc_common.commands import hydra_defaults
from rlkl_htc_common.commands.repository import texts_are_no_groups
from rlkl_htc_common.errors import InputError
from rlkl_htc_common.extras import MissingExtraError, require
from rlkl_htc_common.runs import sweeps
from rlkl_htc_common.terminal import printable, show_traceback

CONF_VARIABLE = "RLKL_HTC_CONF"
BAD_INPUT = this_program.BAD_INPUT
OPTIONS_WITH_VALUE = ("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--package", "-p")  # of Hydra's
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)
# Errors that Hydra does not catch for an override or a file of conf/ that it cannot read.
UNCOMPOSABLE = (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError, AssertionError, yaml.YAMLError)


def conf_dir(application: str, package: str | None = None) -> Path:
    """The folder of an application's configs.

    It is the folder `conf` of the package. If the environment variable RLKL_HTC_CONF names a folder, its subfolder
    `<application>` is used instead. Hydra's option `--config-dir` adds a second folder.

    Args:
        application: its name.
        package: the package that holds it; default: `application`.

    Raises:
        InputError: if there is none.
    """
    given = os.environ.get(CONF_VARIABLE)
    folder = Path(given) / application if given else Path(str(files(package or application))) / "conf"
    if not folder.is_dir():
        if given:
            raise InputError(f"no folder {folder}; let {CONF_VARIABLE} name a conf folder, or unset it for the one installed.")
        raise InputError(f"{folder} is no folder, as git makes no links here; let {CONF_VARIABLE} name the repository's conf.")
    return folder.resolve()


def run_application(
    task: Callable[[DictConfig], object],
    *,
    application: str,
    config: str,
    schema: type | None = None,
    distribution: str | None = None,
) -> NoReturn:
    """Compose `conf/<application>/<config>.yaml` with the command line, run the task on it, and exit.

    Args:
        task: called with the composed config. In a sweep, the `run_dir` and `metrics` that it returns go into a table, and a
            sweeper maximises its `score`.
        application, config: which config.
        schema: a dataclass with the config's keys; keys that are texts are plain text on the command line.
        distribution: `--version` prints its version; default: `application`.

    Exits with 0; with 2 and one sentence for bad input; with 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP. Any other
    exception is a bug: it keeps its traceback and exits with 1.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let exceptions out of Hydra, so that they are reported here
    hydra_defaults.register()
    logging.captureWarnings(True)
    sys.excepthook = show_traceback
    program = this_program.program_name()
    this_program.show_version_if_asked(distribution or application)
    global _running
    _running = Application(program, task, FOLDERS_OF_HYDRA | ({} if schema is None else text_keys(schema)))
    with interruption.answering(program):
        try:
            _running.run(application, config, distribution or application)
        except KeyboardInterrupt:
            sys.exit(interruption.exit_code())
        except Exception:
            if interruption.received() is None:
                raise
            sys.exit(interruption.exit_code())  # a library turned the interruption into an error
        if interruption.received() is not None:
            sys.exit(interruption.exit_code())
        sys.exit(0 if sweeps.Sweep.folder is None else _finish(program, sweeps.Sweep.folder))


_running: "Application | None" = None


def running() -> "Application":
    """The application that runs in this process."""
    assert _running is not None
    return _running


class Application:
    """A task and how to call it. Args: texts: keys whose values are plain text."""

    def __init__(
        self,
        program: str,
        task: Callable[[DictConfig], object],
        texts: dict[str, TextKey],
    ) -> None:
        self.program, self.task, self.texts = program, task, texts
        self.composed = False

    def doing(self, job: Callable[[DictConfig], object]) -> "Application":
        """The same application with another task."""
        return Application(self.program, job, self.texts)

    def run(self, application: str, config: str, distribution: str) -> None:
        """Compose and call the task, once or for each job of a sweep. Exit for errors that are not bugs."""
        given = sys.argv[1:]
        try:
            directory = str(conf_dir(application, distribution.replace("-", "_")))
            sys.argv[1:] = _overrides(given, self.texts)
            if {"--help", "-h"} & set(given):
                print_result(self._help(Path(directory), config, sys.argv[1:]))
                return

            def task(config: DictConfig) -> object:
                sys.argv[1:] = given
                return self(config)

            main = hydra.main(version_base="1.3", config_path=directory, config_name=config)(task)
            if any(argument.startswith("query=") for argument in given):  # the shell asks what Tab could complete
                from rlkl_htc_common.commands.help import for_users

                with redirect_stdout(StringIO()) as offered:
                    main()
                print_as_is(for_users(offered.getvalue().rstrip("\n")))
                return
            with sweeps.Sweep.none_yet(), texts_are_no_groups(self.texts):
                main()
        except sweeps.JobError:
            pass  # reported at the end of the sweep
        except InputError as error:
            _exit(self.program, str(error), BAD_INPUT)
        except (HydraException, OmegaConfBaseException) as error:  # the config could not be composed
            _exit(self.program, _missing_launcher(error, distribution) or describe(error), BAD_INPUT)
        except Exception as error:
            if interruption.received() is not None:
                raise
            if sweeps.Sweep.folder is None:
                if not self.composed and isinstance(error, UNCOMPOSABLE):
                    read = f"an override, or a file of conf/, cannot be read: {_first_words(error)}"
                    _exit(self.program, read, BAD_INPUT)
                raise
            _finish(self.program, sweeps.Sweep.folder)
            broke = f"the sweep broke off ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
            _exit(self.program, f"{broke}; finished jobs are kept, and the same command continues.", 1)
        finally:
            sys.argv[1:] = given

    def _help(self, directory: Path, config: str, arguments: Sequence[str]) -> str:
        from rlkl_htc_common.commands.help import help_text

        options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        options.add_argument("--config-dir", "-cd", type=Path)
        folder = options.parse_known_args(arguments)[0].config_dir
        overrides = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
        overrides += [] if folder is None else [f"hydra.searchpath=[{literal(f'file://{folder.absolute()}')}]"]
        with texts_are_no_groups(self.texts), hydra.initialize_config_dir(str(directory), version_base="1.3"):
            composed = hydra.compose(config, overrides, return_hydra_config=True)
        return help_text(self.program, composed, [directory, *([] if folder is None else [folder])])

    def __call__(self, config: DictConfig) -> object:
        """Do the task, or one job of a sweep; a job returns its score."""
        self.composed = True
        with interruption.stoppable():
            if sweeps.is_job():
                return sweeps.run_job(self._checked, config, self.program, self._one_sentence, self.texts)
            try:
                self._checked(config)
            except Exception as error:
                sentence = self._one_sentence(error)
                if interruption.received() is not None:
                    if sentence is not None and not interruption.caused(error):  # e.g. no checkpoint could be written
                        _say(self.program, sentence)
                    raise KeyboardInterrupt from error
                if sentence is None:
                    raise
                _exit(self.program, sentence, BAD_INPUT)
        return None

    def _checked(self, config: DictConfig) -> object:
        refuse_added_keys(config)
        return self.task(config)

    def _one_sentence(self, error: Exception) -> str | None:
        """The sentence for an error that is not a bug; None for a bug."""
        if isinstance(error, InputError):
            return str(error)
        if isinstance(error, OmegaConfBaseException):
            return describe(error)
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            what = f"cannot read or write {error.filename or 'a file'}: {error.strerror}"
            return f"{what}; mend that, then give the same command again."
        return None


def print_result(text: str) -> None:
    """Print `printable(text)` to standard output, see `print_as_is`."""
    print_as_is(printable(text))


def print_as_is(text: str) -> None:
    """Print to standard output; exit quietly if its reader, e.g. `head`, has closed it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def refuse_added_keys(config: DictConfig, prefix: str = "") -> None:
    """Raise InputError for keys that `+key=value` added to a schema: nothing would read them."""
    schema = OmegaConf.get_type(config)
    known = {field.name for field in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else None
    for key in map(str, config):
        if known is not None and key not in known:
            raise InputError(f"unknown key {prefix + key!r}; known here: {', '.join(sorted(known))}.")
        if not OmegaConf.is_missing(config, key) and isinstance(config[key], DictConfig):
            refuse_added_keys(config[key], f"{prefix}{key}.")


def _finish(program: str, folder: Path) -> int:
    from rlkl_htc_common.report.sweep import finish  # here: the import takes a second in every job

    return finish(program, folder)


def _say(program: str, message: str) -> None:
    print(printable(f"{program}: {message}", keep=""), file=sys.stderr)


def _exit(program: str, message: str, code: int) -> NoReturn:
    _say(program, message)
    sys.exit(code)


def describe(error: BaseException) -> str:
    """A Hydra or OmegaConf error on one line; for an unknown key, with the nearest valid one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.parent_node is not None and cause.key is not None:
        keys = [str(key) for key in getattr(cause.parent_node, "keys", list)()]
        near = get_close_matches(str(cause.key), keys, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(keys))}."
        return f"unknown key {cause.full_key!r}; {hint}{_how_to_add(cause)}"
    if isinstance(cause, MissingMandatoryValue):
        return f"{cause.full_key} must be given, e.g. {cause.full_key}=..."
    about_a_file = str(error).partition("Config search path")[0]  # a list of folders follows
    about_a_file = re.sub(r"\s\w+_schema\b", "", about_a_file)  # not a choice for users
    text = about_a_file if cause is None else f"{cause.full_key}: {str(cause).splitlines()[0]}"
    return " ".join(text.split())


def _how_to_add(error: OmegaConfBaseException) -> str:
    """The form that adds an entry, where the key is one of a mapping that has no schema: `methods` of a grid, say."""
    mapping, _, entry = str(error.full_key).rpartition(".")
    if not isinstance(error.parent_node, DictConfig) or dataclasses.is_dataclass(OmegaConf.get_type(error.parent_node)):
        return ""
    return f" To add an entry, put a plus in front: '+{mapping}={{{entry}: ...}}'." if mapping else ""


def _missing_launcher(error: BaseException, distribution: str) -> str | None:
    """How to install a missing launcher; None if no extra brings it."""
    try:
        if "hydra/launcher/submitit" in str(error):
            require(f"{distribution}[cluster]", "hydra-submitit-launcher")
    except MissingExtraError as missing:
        return str(missing)
    return None


def _first_words(error: BaseException) -> str:
    """The start of an error's message, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _overrides(arguments: Sequence[str], texts: Mapping[str, TextKey]) -> list[str]:
    """The arguments in Hydra's grammar. Args: texts: the keys whose values are plain text."""
    sweeping = any(argument.startswith("--multi") or argument in ("-m", "hydra.mode=MULTIRUN") for argument in arguments)
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before not in OPTIONS_WITH_VALUE:
            _refuse_unreadable(argument, texts)
    return [as_override(argument, texts, sweeping) for argument in arguments]


def _refuse_unreadable(argument: str, texts: Mapping[str, TextKey]) -> None:
    """Raise InputError for an argument that is not UTF-8, or has several words but no `key=`."""
    try:
        argument.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the argument {argument[:60]!r} is not UTF-8 text; give it in UTF-8.") from error
    if argument.startswith("-") and printable(argument, keep="") != argument:  # argparse would print it unescaped
        raise InputError(f"unknown option {argument[:60]!r}; --help lists those there are.")
    if "=" not in argument and not argument.startswith(("-", "~")) and len(argument.split()) > 1:
        hint = f"text={' '.join(argument.split())!r}" if "text" in texts else "training.epochs=3"
        raise InputError(f"expected key=value and read {argument!r}; for example: {hint}")
