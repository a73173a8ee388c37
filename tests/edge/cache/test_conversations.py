"""What conversations share and leave behind, on real engines: loaded models, files and all."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

import edge
from edge.cache.folder import stored_blocks, stored_sessions, stored_tails
from edge.cache.listing import faults
from edge.errors import ArtifactError, InvalidArgument, MemoryBudgetError, SessionInUse, StorageError
from export import export
from tests.runtimes.conformance import text
from tests.tiny_llama import write_tiny_llama

PROMPT = text(1000)
MORE = text(16, seed=1)


def answer(model: edge.Model, prompt: list[int], *, private: bool = False) -> tuple[list[int], int]:
    """Tokens, and how many of the prompt were found."""
    generation = model.generate(prompt, max_tokens=8, temperature=0, ignore_eos=True, private=private)
    return list(generation.tokens()), generation.cached_tokens


def facts(going: edge.Generation) -> tuple[str, int, int]:
    return "".join(going), going.cached_tokens, going.prompt_tokens


def test_a_prompt_that_begins_alike_gives_the_same_and_runs_the_rest(artifact: Path, tmp_path: Path) -> None:
    with edge.load(artifact, prefix_cache=0) as model:
        cold = answer(model, PROMPT + MORE)
        assert answer(model, PROMPT + MORE) == cold == (cold[0], 0)
    store = tmp_path / "store"
    with edge.load(artifact, store=store, context=2048) as model:
        assert answer(model, PROMPT)[1] == 0
        assert answer(model, PROMPT + MORE) == (cold[0], 960)
    with edge.load(artifact, store=store, context=2048) as model:
        assert answer(model, PROMPT + MORE) == (cold[0], 960)
    for path in store.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert list(faults(store)) == []


def test_two_sequences_over_one_prompt_hold_it_once(paged_artifact: Path) -> None:
    with edge.load(paged_artifact, context=2048) as model:
        first = model.generate(PROMPT + MORE, max_tokens=50, temperature=0, ignore_eos=True)
        next(first.tokens())
        next(first.tokens())
        alone = model.engine.budget.taken
        second = model.generate(PROMPT + MORE[:9], max_tokens=50, temperature=0, ignore_eos=True)
        next(second.tokens())
        assert second.cached_tokens == 960
        page = alone // 16
        assert first.kv_bytes == second.kv_bytes == alone
        assert model.engine.budget.taken == alone + page
        first.close()
        second.close()
        assert model.engine.budget.taken == 15 * page


def test_what_is_private_is_kept_nowhere(artifact: Path, tmp_path: Path) -> None:
    with edge.load(artifact, store=tmp_path / "store") as model:
        answer(model, PROMPT, private=True)
        assert answer(model, PROMPT, private=True)[1] == 0
        chat = model.chat(private=True, max_tokens=4)
        "".join(chat.send("hello " * 30))
        chat.close()
        assert model.engine.budget.taken == 0
    assert list(stored_blocks(tmp_path / "store")) == []


def test_without_a_store_nothing_is_written(
    artifact: Path, cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with edge.load(artifact) as model:
        answer(model, PROMPT)
        assert answer(model, PROMPT + MORE)[1] == 960
        with pytest.raises(
            InvalidArgument, match=r'needs a folder to be kept in; load the model with store="auto"'
        ):
            model.session("talk")
    assert not cache_folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_another_model_under_the_same_name_finds_nothing(paged_artifact: Path, tmp_path: Path) -> None:
    name, store = tmp_path / "model.edge", tmp_path / "store"
    shutil.copytree(paged_artifact, name)
    with edge.load(name, store=store) as model:
        answer(model, PROMPT)
    export(write_tiny_llama(tmp_path / "other", seed=5), name, force=True)
    with edge.load(name, store=store) as model:
        cold, found = answer(model, PROMPT + MORE)
        assert found == 0
    with edge.load(name, prefix_cache=0) as model:
        assert answer(model, PROMPT + MORE)[0] == cold
    with edge.load(name, store=store, kv="fp16") as model:
        assert answer(model, PROMPT + MORE)[1] == 0


def test_conversations_come_before_what_is_kept_for_others(paged_artifact: Path, tmp_path: Path) -> None:
    """Of a budget for one and a half prompts; what goes is on the disk."""
    with edge.load(paged_artifact, store=tmp_path / "store") as model:
        answer(model, PROMPT)
        page = model.engine.budget.taken // 15
        model.engine.budget.limit = 24 * page
        others = text(1000, seed=3)
        answer(model, others)
        assert len(list(stored_blocks(tmp_path / "store"))) == 7
        assert model.engine.budget.taken <= 24 * page
        assert answer(model, PROMPT + MORE)[1] == 960
        model.engine.budget.limit = 10 * page
        with pytest.raises(MemoryBudgetError):
            answer(model, text(1000, seed=4))


def test_a_chat_that_is_idle_gives_way_and_goes_on_from_the_disk(artifact: Path, tmp_path: Path) -> None:
    said = ["hello " * 40, "and?", "what else?"]
    with edge.load(artifact, prefix_cache=0) as model:
        chat = model.chat(max_tokens=6, ignore_eos=True)
        expected = ["".join(chat.send(each)) for each in said]
    with edge.load(artifact, store=tmp_path / "store", prefix_cache=0) as model:
        chat = model.chat(max_tokens=6, ignore_eos=True)
        answers = []
        for each in said:
            going = chat.send(each)
            answers.append("".join(going))
            assert model.cache.release(1) > 0
            assert chat.cache is None
        assert answers == expected
        assert going.cached_tokens % 64 == 0 < going.cached_tokens


def test_a_named_session_goes_on_without_reading_again(artifact: Path, tmp_path: Path) -> None:
    said = ["hello " * 40, "and?", "what else?"]
    with edge.load(artifact, prefix_cache=0) as model:
        chat = model.chat(max_tokens=6, ignore_eos=True)
        expected = [facts(chat.send(each)) for each in said]
    for turn, each in enumerate(said):
        with edge.load(artifact, store=tmp_path / "store") as model:
            chat = model.session("talk", max_tokens=6, ignore_eos=True)
            assert len(chat.messages) == 2 * turn
            assert facts(chat.send(each)) == expected[turn]
            chat.close()


def test_a_named_session_of_another_model_is_read_again(artifact: Path, tmp_path: Path) -> None:
    name, store = tmp_path / "model.edge", tmp_path / "store"
    shutil.copytree(artifact, name)
    with edge.load(name, store=store) as model, model.session("talk", max_tokens=4) as chat:
        "".join(chat.send("hello " * 40))
        messages = chat.messages
    engine = model.engine.name
    export(write_tiny_llama(tmp_path / "other", seed=5), name, force=True, engine=engine)
    with edge.load(name, store=store) as model, model.session("talk", max_tokens=4) as chat:
        assert chat.messages == messages
        going = chat.send("and?")
        "".join(going)
        assert going.cached_tokens == 0


@pytest.mark.parametrize("damage", ["blocks", "tail", "said"])
def test_a_named_session_whose_kv_is_lost_is_read_again(
    artifact: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = tmp_path / "store"
    with edge.load(artifact, store=store) as model, model.session("talk", max_tokens=4) as chat:
        "".join(chat.send("hello " * 40))
        expected, messages = "".join(chat.send("and?")), chat.messages
    files = {"blocks": stored_blocks, "tail": stored_tails, "said": stored_sessions}[damage](store)
    for stored in list(files):
        stored.path.write_bytes(stored.path.read_bytes()[:-1])
    with edge.load(artifact, store=store) as model, model.session("talk", max_tokens=4) as chat:
        if damage == "said":
            assert chat.messages == []
            assert "is not what was written to it; the session begins anew" in caplog.text
            assert (store / "sessions" / "talk.unreadable").exists()
        else:
            assert chat.messages == messages
            assert messages[-1]["content"] == expected
            assert "".join(chat.send("what else?"))


def test_a_session_is_open_once(artifact: Path, tmp_path: Path) -> None:
    with edge.load(artifact, store=tmp_path / "store") as model:
        chat = model.session("talk", system="Be brief.", max_tokens=4)
        with pytest.raises(SessionInUse, match="session talk is open in another process or conversation"):
            model.session("talk")
        "".join(chat.send("hello"))
        chat.reset()
        chat.close()
        with pytest.raises(InvalidArgument, match="session talk was begun with another system message"):
            model.session("talk", system="Be long.")
        with model.session("talk") as chat:
            assert chat.messages == [{"role": "system", "content": "Be brief."}]
        with pytest.raises(InvalidArgument, match="there is no parameter 'warmth'"):
            model.session("talk", warmth=1)
        model.session("talk").close()


def test_folders_that_refuse(
    artifact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(
        StorageError, match=r"cannot be kept in .*file/store \(Not a directory\); name another"
    ):
        edge.load(artifact, store=blocked / "store")
    monkeypatch.setenv("EDGEWISE_CACHE", str(blocked / "store"))
    with edge.load(artifact, store="auto") as model:
        assert model.cache.store is None
        answer(model, PROMPT)
    assert "cannot be kept in" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix_cache": -1}, "prefix_cache is -1; give auto, bytes from 0 on"),
        ({"prefix_cache": "lots"}, "'lots' is no size"),
        ({"prefix_cache": 1.5}, "prefix_cache is 1.5"),
        ({"disk": "lots"}, "'lots' is no size"),
        ({"disk": -1}, "disk is -1; give auto, bytes from 0 on"),
        ({"at_limit": "forget"}, "at_limit is 'forget'; choose one of stop, window, error"),
        ({"at_limit": "window", "context": 100}, "context is 100; the policy window needs 256"),
    ],
)
def test_bad_values(artifact: Path, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        edge.load(artifact, store=tmp_path / "store", **options)  # type: ignore[arg-type]


def test_a_model_that_cannot_chat_locks_nothing(artifact: Path, tmp_path: Path) -> None:
    bare, store = tmp_path / "bare.edge", tmp_path / "store"
    checkpoint = write_tiny_llama(tmp_path / "checkpoint")
    (checkpoint / "chat_template.jinja").unlink()
    with edge.load(artifact, store=store) as model:
        engine = model.engine.name
    export(checkpoint, bare, engine=engine)
    with edge.load(bare, store=store) as model:
        for _ in range(2):
            with pytest.raises(ArtifactError, match="has no chat template"):
                model.session("talk")
