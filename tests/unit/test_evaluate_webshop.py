"""Buying in the shop of our own, and on a server that speaks as AgentGym's does."""

from __future__ import annotations

import http.server
import json
import random
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentflan_ray.evaluate.benchmark import EnvironmentDied, Item, Reply, Request, Settings, Unavailable
from agentflan_ray.evaluate.benchmarks.webshop import Shopping, shopping, webshop
from agentflan_ray.evaluate.shop import Catalogue, Goal, OwnShop, Product, Seen, reward_of

pytest.importorskip("bm25s", reason="the shop's search needs bm25s")

LAMP = Product("B1", "floor lamp", "Arbent Led Floor Lamp", 40.0, ("led", "tall"), (("color", ("red", "green")),))
GOAL = Goal(LAMP, ("led", "tall"), (("color", "green"),), 50.0)


@pytest.fixture(scope="module")
def shop() -> Shopping:
    return shopping(Settings())


def play(benchmark: Shopping, item: Item, answer: Callable[[Request], str]) -> tuple[dict[str, float], dict[str, Any]]:
    episode = benchmark.open(item)
    while (request := episode.ask()) is not None:
        episode.take(Reply(answer(request)))
    outcome = json.loads(json.dumps(episode.outcome()))
    episode.close()
    return benchmark.score(item, outcome), outcome


def oracle(catalogue: Catalogue, item: Item) -> Callable[[Request], str]:
    goal = catalogue.goals[item.data["goal"]]
    choices = iter([value for _, value in goal.options])

    def answer(request: Request) -> str:
        page = request.messages[-1]["content"]
        if "You can search." in page:
            return f"Action:\nsearch[{goal.product.title}]"
        if goal.product.id in page:
            return f"Action:\nclick[{goal.product.id}]"
        if "Buy Now" in page:
            return f"Action:\nclick[{next(choices, 'Buy Now')}]"
        return "Action:\nclick[Next >]"

    return answer


def test_an_oracle_earns_everything_and_chance_little(shop: Shopping) -> None:
    catalogue = shop.open(shop.items()[0]).shop
    assert isinstance(catalogue, OwnShop)
    won = [play(shop, item, oracle(catalogue.catalogue, item))[0] for item in shop.items()]
    assert len(won) == 200
    assert all(scores["reward"] == 1 and scores["invalid_action_rate"] == 0 for scores in won)
    luck = random.Random(0)

    def anything(request: Request) -> str:
        page = request.messages[-1]["content"]
        if "You can search." in page:
            return "Action:\nsearch[lamp shoe tea]"
        return f"Action:\nclick[{luck.choice(page.rsplit('Buttons: ', 1)[1].split(', '))}]"

    rewards = [play(shop, item, anything)[0]["reward"] for item in shop.items()[:100]]
    assert sum(rewards) / 100 < 0.25


@pytest.mark.parametrize(
    ("product", "chosen", "reward"),
    [
        (LAMP, {"color": "green"}, 1.0),
        (LAMP, {"color": "red"}, 3 / 4),
        (LAMP, {}, 3 / 4),
        (Product("B2", "floor lamp", "Dear Floor Lamp", 80.0, ("led",), ()), {}, 1 / 4),
        (Product("B3", "desk lamp", "Veskal Led Desk Lamp", 40.0, ("led", "tall"), ()), {}, 0.5 * 3 / 4),
        (Product("B4", "tea", "Organic Tea", 4.0, ("organic",), ()), {}, 0.1 / 4),
    ],
)
def test_the_reward_counts_attributes_options_price_and_kind(
    product: Product, chosen: dict[str, str], reward: float
) -> None:
    assert reward_of(GOAL, product, chosen) == pytest.approx(reward)


def test_a_button_that_is_not_there_does_nothing(shop: Shopping) -> None:
    replies = iter(["Action: click[Buy Now]", "click[nothing]", "search[tea]", "search[again]", "Action: buy it"])
    scores, outcome = play(shop, shop.items()[0], lambda _: next(replies, ""))
    assert scores == {"reward": 0.0, "success": 0.0, "bought": 0.0, "invalid_action_rate": 0.9}
    assert outcome["rounds"] == 10
    assert outcome["actions"] == ["click[Buy Now]", "click[nothing]", "search[tea]", "search[again]"]


@pytest.mark.parametrize("garbage", ["", "[" * 100_000, "search[" * 20_000, "click[\x00\ud7ff]", "search[\ud7ff]"])
def test_garbage_buys_nothing(shop: Shopping, garbage: str) -> None:
    assert play(shop, shop.items()[0], lambda _: garbage)[0]["bought"] == 0


class Server(http.server.BaseHTTPRequestHandler):
    """AgentGym's routes over the shop of our own."""

    catalogue = None
    shops: dict[int, tuple[OwnShop, Seen]]

    def answer(self, value: object) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server: Any = self.server
        number = body.get("env_idx")
        if self.path == "/create":
            server.shops[len(server.shops)] = OwnShop(server.catalogue)
            self.answer(len(server.shops) - 1)
        elif self.path == "/reset":
            server.seen[number] = server.shops[number].enter(body["session_id"])
            self.answer([server.seen[number].text, None])
        elif self.path == "/step":
            kind, argument = re.fullmatch(r"(\w+)\[(.*)\]", body["action"]).groups()  # type: ignore[union-attr]
            seen = server.seen[number] = server.shops[number].act(kind, argument)
            done = seen.reward is not None
            self.answer({"state": seen.text, "reward": seen.reward or 0.0, "done": done, "info": None})
        else:
            server.closed.append(number)
            self.answer({"closed": True})

    def do_GET(self) -> None:
        url = urllib.parse.urlparse(self.path)
        server: Any = self.server
        seen = server.seen[int(urllib.parse.parse_qs(url.query)["env_idx"][0])]
        actions = {"has_search_bar": seen.can_search, "clickables": [button.lower() for button in seen.buttons]}
        self.answer(seen.text if url.path == "/observation" else actions)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as started:
        held: Any = started
        held.catalogue, held.shops, held.seen, held.closed = Catalogue(400, 200), {}, {}, []
        thread = threading.Thread(target=started.serve_forever)
        thread.start()
        yield started
        started.shutdown()
        thread.join()


def test_a_server_is_bought_from(server: http.server.HTTPServer) -> None:
    held: Any = server
    url = f"http://127.0.0.1:{server.server_address[1]}"
    benchmark = webshop(Settings(options={"webshop_url": url}))
    for item in benchmark.items()[:3]:
        scores, outcome = play(benchmark, item, oracle(held.catalogue, item))
        assert scores["reward"] == 1, outcome
    assert held.closed == [0, 1, 2]


def test_a_dead_server_is_said() -> None:
    benchmark = webshop(Settings(options={"webshop_url": "http://127.0.0.1:9"}))
    with pytest.raises(EnvironmentDied, match=r"The WebShop server http://127\.0\.0\.1:9 failed"):
        benchmark.open(benchmark.items()[0])
    with pytest.raises(Unavailable, match="agentenv-webshop"):
        webshop(Settings())
