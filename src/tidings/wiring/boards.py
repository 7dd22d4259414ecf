"""Where processes show each other things: in Valkey, or nowhere."""

from contextlib import AsyncExitStack

from tidings.limits.board import NoBoard, NoRollCall, ValkeyBoard, ValkeyRollCall, Wall
from tidings.ports import Board, RollCall
from tidings.settings import Settings


def wall_of(settings: Settings, stack: AsyncExitStack) -> Wall | None:
    if not settings.valkey_url:
        return None
    wall = Wall(settings.valkey_url)
    stack.push_async_callback(wall.close)
    return wall


def roll_call_on(wall: Wall | None) -> RollCall:
    return ValkeyRollCall(wall) if wall else NoRollCall()


def board_on(wall: Wall | None, worker: str) -> Board:
    return ValkeyBoard(wall, worker) if wall else NoBoard()
