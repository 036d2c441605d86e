"""A proxy that breaks connections, as networks do."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class CuttingProxy:
    """Forwards a port to `target`. Each entry of `cuts` ends one connection after so many bytes from the client."""

    target: int
    cuts: list[int] = field(default_factory=list)
    done: int = 0  # connections that were cut
    port: int = 0

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._forward, args=(connection,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.target), 10) as server:
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            sent = 0
            while data := client.recv(65536):
                if self.cuts and sent + len(data) > self.cuts[0]:
                    server.sendall(data[: max(0, self.cuts.pop(0) - sent)])
                    self.done += 1
                    for end in (client, server):  # closing alone would not end it: the other thread reads from it
                        end.shutdown(socket.SHUT_RDWR)
                    break
                server.sendall(data)
                sent += len(data)
            else:
                server.shutdown(socket.SHUT_WR)
                back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # also a killed server ends the connection
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def cutting_proxy(target: int) -> Iterator[CuttingProxy]:
    """A CuttingProxy on a free port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        proxy = CuttingProxy(target, port=int(listener.getsockname()[1]))
        threading.Thread(target=proxy._serve, args=(listener,), daemon=True).start()
        try:
            yield proxy
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
