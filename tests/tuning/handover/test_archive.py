"""Source prompts for others: out of one storage, into another without the data, and the same prompts there."""

import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from panda_trainable.config.methods import SOURCE_ONLY
from panda_trainable.config.origin import Imported
from panda_trainable.data.overlap import split_text_hashes
from panda_trainable.library import PromptLibrary
from panda_trainable.origins.folder import FolderFiles
from panda_trainable.similarity.readings import seed_similarities
from panda_trainable.similarity.representations import embedding_key
from panda_trainable.transfer.lineage import tuned_prompts
from tests.kits.command import experiment_file, panda_tune, panda_tune_here
from tests.kits.small import OWN, like, rewritten
from tuning.cli import app
from tuning.experiment.loading import load
from tuning.experiment.pinned import pinned
from tuning.experiment.problems import Misuse
from tuning.handover.archive import export, import_archive
from tuning.planning.imported import source_artefacts
from tuning.planning.jobs import source_jobs, source_lineage_of, target_jobs
from tuning.planning.overlap import overlap_problems, shared_texts
from tuning.planning.plan import Plan
from tuning.planning.preflight import check_plan
from tuning.planning.resolve import make_plans
from tuning.planning.studies import make_studies
from tuning.run.jobs import is_made, make, measure
from tuning.run.train import pinned_trial

KINDS = {"prompts", "embeddings", "texts", "counts", "tasks"}
SETTINGS: dict[str, Any] = {"sources": ["s1"], "methods": ["spot"]}


def made(plan: Plan) -> PromptLibrary:
    """What a search leaves of its sources: prompts of all seeds, embeddings, and hashes of texts."""
    library = PromptLibrary(plan.experiment.storage_path / "library")
    for job in source_jobs(plan):
        make(library, job)
        tuned_prompts(library, job.lineage, plan.experiment.confirm.seeds)
        split_text_hashes(library, job.lineage.task, "train", None)
        seed_similarities(library, ["source_size"], job.early, job.early, job.seeds)
    return library


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory, plms: Callable[[str], Path]) -> Path:
    """A folder with an experiment whose source prompts are made, and an archive of them."""
    folder = tmp_path_factory.mktemp("ours")
    (plan,) = make_plans(load(experiment_file(folder, plms("bert"), **SETTINGS)))
    made(plan)
    export((plan,), folder / "prompts.zip")
    return folder


@pytest.fixture
def archive(ours: Path) -> Path:
    return ours / "prompts.zip"


def file_without_source(ours: Path, folder: Path, **changes: Any) -> Path:
    """The experiment somewhere else, where nobody has the data of s1."""
    for task in ("t", "s2"):
        shutil.copytree(ours / "data" / task, folder / "data" / task)
    shutil.copy(ours / "experiment.yaml", folder)
    return rewritten(folder / "experiment.yaml", **changes)


@pytest.fixture
def theirs(ours: Path, tmp_path: Path) -> Callable[..., Plan]:
    """The plan of the same experiment without the data of s1, which was imported: theirs(**changes of the file)."""

    def plan(**changes: Any) -> Plan:
        folder = tmp_path / "theirs"
        file = file_without_source(ours, folder, **changes)
        import_archive(PromptLibrary(folder / "runs/library"), ours / "prompts.zip")
        return make_plans(load(file))[0]

    return plan


def files(root: Path) -> dict[str, bytes]:
    """What of a library counts: every file of its artefacts by path; no locks."""
    found = (path for kind in sorted(KINDS) for path in sorted((root / kind).rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def test_an_archive_holds_prompts_embeddings_hashes_and_what_the_task_is_and_no_text(ours: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive) as held:
        names = held.namelist()
        content = b"".join(held.read(name) for name in names)
    assert {name.split("/")[0] for name in names} == KINDS
    assert [name for name in names if name.startswith("tasks/")] == ["tasks/s1.json"]
    prompts = {name.split("/")[1] for name in names if name.startswith("prompts/")}
    assert len(prompts) == 2 * 2 + 2  # two search seeds at two steps, and two confirm seeds at the last
    texts = [json.loads(line)["a"] for line in (ours / "data/s1/train.jsonl").read_text().splitlines()]
    assert not [text for text in texts if text.encode() in content]
    assert str(ours).encode() not in b"".join(name.encode() for name in names)


def test_names_and_numbers_of_what_was_shared_are_told(ours: Path, tmp_path: Path) -> None:
    plans = make_plans(load(ours / "experiment.yaml"))
    expected = len(set(source_artefacts(plans[0], plans[0].tasks["s1"]))) + len(plans[0].experiment.train.seeds)
    assert export(plans, tmp_path / "a.zip") == (["s1"], expected)
    assert import_archive(PromptLibrary(tmp_path / "library"), tmp_path / "a.zip") == (["s1"], expected)
    assert import_archive(PromptLibrary(tmp_path / "library"), tmp_path / "a.zip") == (["s1"], 0)


def test_before_there_are_prompts_nothing_is_exported(plms: Callable[[str], Path], tmp_path: Path) -> None:
    plans = make_plans(load(experiment_file(tmp_path, plms("bert"), **SETTINGS)))
    with pytest.raises(Misuse, match="small: no source prompt is there yet; run panda-tune search first"):
        export(plans, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("place", ["nowhere/a.zip", "."])
def test_an_archive_that_cannot_be_written_is_told(ours: Path, tmp_path: Path, place: str) -> None:
    with pytest.raises(Misuse, match="cannot be written"):
        export(make_plans(load(ours / "experiment.yaml")), tmp_path / place)


def test_what_was_imported_is_what_was_exported(ours: Path, archive: Path, tmp_path: Path) -> None:
    import_archive(PromptLibrary(tmp_path / "library"), archive)
    before, after = files(ours / "runs/library"), files(tmp_path / "library")
    assert {path for path in after if path.startswith("tasks/")} == {"tasks/s1.json"}
    kept = {path: content for path, content in after.items() if not path.startswith("tasks/")}
    assert kept.items() <= before.items()
    assert not list((tmp_path / "library").glob(".import*"))


def test_an_imported_source_is_planned_with_the_same_keys_and_nothing_left_to_train(
    ours: Path, theirs: Callable[..., Plan]
) -> None:
    (mine,) = make_plans(load(ours / "experiment.yaml"))
    plan = theirs()
    assert plan.tasks["s1"].origin == Imported()
    assert replace(plan.tasks["s1"], origin=mine.tasks["s1"].origin) == mine.tasks["s1"]
    library = PromptLibrary(plan.experiment.storage_path / "library")
    assert check_plan(library, plan) == []
    assert all(is_made(library, job) for job in source_jobs(plan))
    measured = {("s1", "t"): like(0.8)}
    keys = [[study.key for study in make_studies(each, measured)[0]] for each in (mine, plan)]
    assert keys[0] == keys[1]


def test_what_an_archive_said_of_a_task_is_named_where_it_is_damaged(ours: Path, archive: Path, tmp_path: Path) -> None:
    file = file_without_source(ours, tmp_path / "theirs")
    import_archive(PromptLibrary(tmp_path / "theirs/runs/library"), archive)
    card = tmp_path / "theirs/runs/library/tasks/s1.json"
    card.write_text('{"is": ')
    with pytest.raises(Misuse, match=r"s1.json: is damaged .*; import its archive again"):
        make_plans(load(file))


def test_no_prompt_of_an_imported_source_is_trained_again(ours: Path, theirs: Callable[..., Plan]) -> None:
    plan = theirs()
    library = PromptLibrary(plan.experiment.storage_path / "library")
    before = {path: path.stat().st_mtime_ns for path in library.root.rglob("*") if path.is_file()}
    for job in [*source_jobs(plan), *target_jobs(plan)]:
        make(library, job)
    for job in source_jobs(plan):
        tuned_prompts(library, job.lineage, plan.experiment.confirm.seeds)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    mine = PromptLibrary(ours / "runs/library")
    (plan_here,) = make_plans(load(ours / "experiment.yaml"))
    for job in target_jobs(plan_here):
        make(mine, job)
    assert measure(library, plan) == measure(mine, plan_here)
    shutil.rmtree(library.root / "counts")  # as of an archive of before: its baselines are not known
    without = measure(PromptLibrary(library.root), plan)["s1", "t"]
    assert set(measure(mine, plan_here)["s1", "t"]) - set(without) == set(SOURCE_ONLY)


def test_texts_of_an_imported_source_are_compared_without_being_there(
    ours: Path, archive: Path, tmp_path: Path
) -> None:
    """s1 shares texts with the report rows of t: to drop them one needs its data."""
    folder = tmp_path / "theirs"
    file = file_without_source(ours, folder)
    shared = (ours / "data/s1/train.jsonl").read_text().splitlines()[:3]
    with (folder / "data/t/validation.jsonl").open("a", encoding="utf-8") as rows:
        rows.writelines(f"{row}\n" for row in shared)
    import_archive(PromptLibrary(folder / "runs/library"), archive)
    library = PromptLibrary(folder / "runs/library")
    said = {
        "drop": "overlap: drop: the data of imported source s1 is not here, so that texts it shares with t cannot be "
        "dropped; leave the pairs out, or use overlap: warn",
        "refuse": "overlap: refuse: texts of train rows of a source stand in report rows of a target: s1 and t (3); leave "
        "the pairs out, or use overlap: drop",
    }
    for overlap in ("drop", "warn", "refuse"):
        (plan,) = make_plans(load(file, [f"overlap={overlap}"]))
        shared = shared_texts(library, plan)
        assert shared == {("s1", "t"): 3}
        assert [str(problem) for problem in overlap_problems(plan, shared)] == [
            said[overlap] for _ in range(overlap in said)
        ]


def test_data_that_is_there_is_read_and_not_what_was_imported(
    ours: Path, archive: Path, tmp_path: Path, plms: Callable[[str], Path]
) -> None:
    import_archive(PromptLibrary(tmp_path / "runs/library"), archive)
    shutil.copytree(ours / "data", tmp_path / "data")
    (plan,) = make_plans(load(experiment_file(tmp_path, plms("bert"), **SETTINGS)))
    assert plan.tasks["s1"].origin == FolderFiles(tmp_path / "data/s1")


def test_a_target_needs_its_data(ours: Path, archive: Path, tmp_path: Path) -> None:
    file = file_without_source(ours, tmp_path, targets=["s1"], sources=["s2"])
    import_archive(PromptLibrary(tmp_path / "runs/library"), archive)
    with pytest.raises(Misuse, match="task s1: train and validation or test not found"):
        make_plans(load(file))


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["yes", "no"]},
        {"metrics": ["macro_f1"]},
        {"text": ["a", "b"]},
        {"kind": "regression", "classes": [], "metrics": ["pearson"]},
    ],
)
def test_a_task_that_is_described_otherwise_is_not_the_imported_one(
    ours: Path, archive: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    file = file_without_source(ours, tmp_path, tasks={"s1": {**OWN, **change}, "s2": OWN, "t": OWN})
    import_archive(PromptLibrary(tmp_path / "runs/library"), archive)
    with pytest.raises(Misuse, match="task s1: train and validation or test not found"):
        make_plans(load(file))


TRAIN = {"steps": 8, "batch_size": 4, "max_length": 16, "eval_every": 2, "seeds": [0, 1]}
OTHERWISE: dict[str, tuple[dict[str, Any], int, str]] = {
    # Two seeds' early snapshots and embeddings, and the last prompts of two search and two confirm seeds.
    "prompt": ({"prompt": {"length": 4}}, 8, "embeddings, prompts"),
    "batch size": ({"train": {**TRAIN, "batch_size": 5}}, 8, "embeddings, prompts"),
    "rate": ({"source_train": {"steps": 8, "early_step": 4, "learning_rate": 0.02}}, 8, "embeddings, prompts"),
    "early step": ({"source_train": {"steps": 8, "early_step": 3}}, 4, "embeddings, prompts"),
    "steps": ({"source_train": {"steps": 9, "early_step": 4}}, 4, "prompts"),
    "a seed of the search": ({"train": {**TRAIN, "seeds": [0, 2]}}, 3, "embeddings, prompts"),
    "a seed of the confirmation": ({"confirm": {"top": 1, "seeds": [10, 12]}}, 1, "prompts"),
    "train rows": ({"limit": {"train": 50}}, 9, "embeddings, prompts, texts"),
    "shots of sources": ({"shots": {"per_class": 4, "for": "sources"}}, 8, "embeddings, prompts"),
    "start": ({"prompt": {"length": 3, "init": "zeros"}}, 8, "embeddings, prompts"),
}


@pytest.mark.parametrize("change", OTHERWISE)
def test_settings_for_which_there_are_no_prompts_are_refused_with_what_is_missing(
    theirs: Callable[..., Plan], change: str
) -> None:
    changes, missing, kinds = OTHERWISE[change]
    plan = theirs(**changes)
    (problem,) = check_plan(PromptLibrary(plan.experiment.storage_path / "library"), plan)
    assert str(problem) == (
        f"task s1: its data is not here, and of its imported prompts {missing} artefacts are missing for these settings and "
        f"seeds ({kinds}); use the settings they were made with, or bring the data"
    )


@pytest.mark.parametrize(
    "changes", [{"shots": {"per_class": 4}}, {"methods": ["spot", "panda"]}, {"train": {**TRAIN, "steps": 5}}]
)
def test_settings_of_targets_alone_do_not_matter(theirs: Callable[..., Plan], changes: dict[str, Any]) -> None:
    plan = theirs(**changes)
    assert check_plan(PromptLibrary(plan.experiment.storage_path / "library"), plan) == []


ON_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "one prompt for source and target": ({"methods": ["spot_mixture"]}, "spot_mixture"),
    "a model of all sources": ({"methods": ["multitask_model_tuning"]}, "multitask_model_tuning"),
    "a mixture": ({"mixtures": {"pool": ["s1", "s2"]}, "sources": ["pool"]}, "mixtures of s1"),
}


@pytest.mark.parametrize("how", ON_ROWS)
def test_what_trains_on_rows_of_an_imported_source_is_refused(theirs: Callable[..., Plan], how: str) -> None:
    changes, reader = ON_ROWS[how]
    said = f"{reader}: trains on rows of s1, of which prompts were imported but no data is here; bring it"
    with pytest.raises(Misuse) as refused:
        theirs(**changes)
    assert str(refused.value) == said


def test_prompts_of_an_imported_source_on_another_plm_are_not_there_to_be_projected(
    theirs: Callable[..., Plan], plms: Callable[[str], Path]
) -> None:
    other = {"methods": ["tpt_model"], "source_plm": {"from": str(plms("roberta"))}}
    with pytest.raises(Misuse, match=r"tpt_model: trains on rows of s1, of which prompts were imported"):
        theirs(**other)


def test_embeddings_are_shared_as_they_were_measured(ours: Path, tmp_path: Path) -> None:
    """Those of another layer are others, and are told to be missing where they are."""
    measured = load(ours / "experiment.yaml", ["embedding={pooling: cls, layer: 1}"])
    (usual,), (other,) = make_plans(load(ours / "experiment.yaml")), make_plans(measured)

    def embeddings(plan: Plan) -> set[str]:
        return {key for kind, key in source_artefacts(plan, plan.tasks["s1"]) if kind == "embeddings"}

    assert not embeddings(usual) & embeddings(other)
    assert embeddings(other) == {
        embedding_key(source_lineage_of(other, other.tasks["s1"]).at(4), seed, other.experiment.similarity_settings)
        for seed in (0, 1)
    }


def test_prompts_of_another_plm_do_not_serve(theirs: Callable[..., Plan], plms: Callable[[str], Path]) -> None:
    plan = theirs(plm={"from": str(plms("distilbert"))})
    (problem,) = check_plan(PromptLibrary(plan.experiment.storage_path / "library"), plan)
    assert str(problem).startswith("task s1: its data is not here, and of its imported prompts 8 artefacts")


def test_a_damaged_imported_prompt_is_missing_then(theirs: Callable[..., Plan]) -> None:
    plan = theirs()
    library = PromptLibrary(plan.experiment.storage_path / "library")
    path = next((library.root / "prompts").glob("*/prompt.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    (problem,) = check_plan(library, plan)
    assert "1 artefacts are missing for these settings" in str(problem)


def test_what_the_search_found_with_an_imported_source_is_trained_again(
    theirs: Callable[..., Plan], tmp_path: Path
) -> None:
    """`best --format yaml` and then `train`, in the storage that has the prompts."""
    plan = theirs(confirm={"top": 1, "seeds": [10, 11]})
    study = next(s for s in make_studies(plan, {("s1", "t"): like(0.8)})[0] if s.pair.source)
    config = replace(study.base.with_knobs({"learning_rate": 0.02, "partners": 0}), seeds=(10, 11))
    file = tmp_path / "pinned.yaml"
    file.write_text(yaml.safe_dump(pinned(plan.experiment, config, "s1")), encoding="utf-8")
    storage = plan.experiment.storage_path
    assert pinned_trial(load(file, [f"storage={storage}"]), PromptLibrary(storage / "library")) == config


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*")) if root.exists() else []


def refused(root: Path, archive: Path) -> str:
    """What a wrong archive is refused with; nothing of it is taken, and nothing lies about."""
    before = everything(root.parent)
    with pytest.raises(Misuse) as misuse:
        import_archive(PromptLibrary(root), archive)
    after = [path for path in everything(root.parent) if (root.parent / path).is_file()]
    assert [path for path in after if path not in before] == []
    assert str(misuse.value).startswith(f"{archive}: ")
    return str(misuse.value)


def zipped(path: Path, members: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


KEY = "0123456789abcdef0123"


@pytest.mark.parametrize(
    "name",
    [
        "../../x",
        "/etc/x",
        "x",
        "prompts/x",
        "prompts/../../../x/y/z",
        f"prompts/{KEY}/../../x",
        f"../prompts/{KEY}/card.json",
        f"prompts/{KEY}/a/b",
        f"prompts\\{KEY}\\x",
        f"confirmed/{KEY}/scores.json",
        f"tokens/{KEY}/ids.npy",
        f"prompts/{KEY.upper()}/x",
        "tasks/../x.json",
        "tasks/.x.json",
        "tasks/x.json/y",
        "C:/x",
    ],
)
def test_a_name_that_no_export_writes_is_refused(archive: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(archive) as held:
        members: dict[str, bytes | str] = {each: held.read(each) for each in held.namelist()}
    said = refused(tmp_path / "inside/library", zipped(tmp_path / "a.zip", {**members, name: b"x"}))
    assert "is no archive of panda-tune library export; it holds [" in said


@pytest.mark.parametrize("name", [f"prompts/{KEY}/..", f"prompts/{KEY}/.", f"prompts/{KEY}/..."])
def test_a_name_of_dots_is_no_way_out(archive: Path, tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(archive) as held:
        members: dict[str, bytes | str] = {each: held.read(each) for each in held.namelist()}
    root = tmp_path / "inside/library"
    import_archive(PromptLibrary(tmp_path / "sound"), archive)
    with suppress(Misuse):
        import_archive(PromptLibrary(root), zipped(tmp_path / "a.zip", {**members, name: b"x"}))
    assert files(root).items() <= files(tmp_path / "sound").items()
    assert sorted(path.name for path in tmp_path.iterdir()) in (["a.zip", "inside", "sound"], ["a.zip", "sound"])
    assert not (tmp_path / "inside").exists() or [path.name for path in (tmp_path / "inside").iterdir()] == ["library"]


FOREIGN: dict[str, dict[str, bytes | str]] = {
    "nothing in it": {},
    "somebody's photos": {"photos/1.jpg": b"x"},
    "an artefact without its card": {f"prompts/{KEY}/prompt.safetensors": b"x"},
    "a card that is no JSON": {f"prompts/{KEY}/card.json": "{"},
    "a card that is a list": {f"prompts/{KEY}/card.json": "[]"},
    "a card without checksums": {f"prompts/{KEY}/card.json": "{}"},
    "a card whose checksums are none": {f"prompts/{KEY}/card.json": '{"sha256": null}'},
    "a card of a file that is not there": {f"prompts/{KEY}/card.json": '{"sha256": {"x": "y"}}'},
    "a task that is no JSON": {"tasks/s1.json": "{"},
    "a task that is a list": {"tasks/s1.json": "[]"},
    "a task that is a text": {"tasks/s1.json": '"x"'},
    "a task without what it is": {"tasks/s1.json": '{"task": "s1"}'},
    "a task without counts": {"tasks/s1.json": '{"task": "s1", "is": {"kind": "x"}, "fingerprints": [["train", "a"]]}'},
}


def artefact(kind: str, file: str, content: bytes, /, **card: Any) -> dict[str, bytes | str]:
    """The entries of an artefact whose checksums hold; `card` overrides what its card says."""
    told = {"kind": kind, "key": KEY, "task": "s1", "sha256": {file: sha256(content).hexdigest()}, **card}
    return {f"{kind}/{KEY}/{file}": content, f"{kind}/{KEY}/card.json": json.dumps(told)}


def as_npy(array: Any) -> bytes:
    held = BytesIO()
    np.save(held, array, allow_pickle=True)
    return held.getvalue()


def as_safetensors(**tensors: Any) -> bytes:
    from safetensors.numpy import save

    return save({name: np.zeros(2, np.float32) for name in ("prompt", "weight", "bias")} | tensors)


PROMPT, TEXTS = "prompt.safetensors", as_npy(np.arange(3, dtype=np.uint64))
ZEROS = {"sha256": {"/dev/zero": "0" * 64, PROMPT: "0"}}
HOSTILE: dict[str, tuple[dict[str, bytes | str], str]] = {
    "a sum of /dev/zero": (artefact("prompts", PROMPT, as_safetensors(), **ZEROS), "lists '/dev/zero'"),
    "a sum of another's file": (
        artefact("prompts", PROMPT, as_safetensors(), sha256={"../../../../../../etc/passwd": "0"}), "etc/passwd",
    ),
    "no sums": (artefact("prompts", PROMPT, as_safetensors(), sha256={}), "lists no file"),
    "sums that are a list": (artefact("prompts", PROMPT, as_safetensors(), sha256=[PROMPT]), "cannot be read"),
    "another key": (artefact("prompts", PROMPT, as_safetensors(), key=KEY[::-1]), f"its card says prompts/{KEY[::-1]}"),
    "another kind": (artefact("prompts", PROMPT, as_safetensors(), kind="texts"), f"its card says texts/{KEY}"),
    "another file": (artefact("prompts", "model.safetensors", as_safetensors()), "is no archive"),
    "a file of another kind": (artefact("prompts", "texts.npy", TEXTS), "is no archive"),
    "a file that no sum tells": (
        {**artefact("texts", "texts.npy", TEXTS), f"texts/{KEY}/embedding.npy": b"x"}, "is no archive",
    ),
    "a card of the card alone": (artefact("prompts", PROMPT, as_safetensors(), sha256={"card.json": "0"}), "changed since"),
    "no prompt": (artefact("prompts", PROMPT, b"x" * 40), "prompt.safetensors: "),
    "no numbers": (artefact("texts", "texts.npy", b"x" * 40), "texts.npy: "),
    "objects that run code": (artefact("texts", "texts.npy", as_npy(np.array([{}]))), "texts.npy: "),
    "numbers of another type": (artefact("texts", "texts.npy", as_npy(np.zeros(3))), "has numbers of type float64"),
    "counts of words": (artefact("counts", "counts.json", b'{"sizes": [1], "labels": [["a"]]}'), "counts.json: "),
    "a card without end": ({**artefact("texts", "texts.npy", TEXTS), f"texts/{KEY}/card.json": "[" * 100_000}, "cannot be read"),
    "a task of another name": ({"tasks/s1.json": '{"task": "s2"}'}, "tasks/s1.json is the card of 's2'"),
    "a task that speaks to the terminal": ({"tasks/s1.json": '{"task": "\\u001b[2J"}'}, "is the card of"),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_is_refused_with_what_it_does(tmp_path: Path, what: str) -> None:
    members, told = HOSTILE[what]
    said = refused(tmp_path / "inside/library", zipped(tmp_path / "a.zip", members))
    assert told in said
    assert said.isprintable()


def test_a_card_is_not_replaced_by_reading_it(archive: Path, tmp_path: Path) -> None:
    """What the hostile archives are made of is taken, where nothing in it is wrong."""
    members = {**artefact("prompts", PROMPT, as_safetensors()), **artefact("texts", "texts.npy", TEXTS)}
    with zipfile.ZipFile(archive) as held:
        members["tasks/s1.json"] = held.read("tasks/s1.json")
    assert import_archive(PromptLibrary(tmp_path / "library"), zipped(tmp_path / "a.zip", members)) == (["s1"], 2)


def test_a_small_archive_that_unpacks_to_a_lot_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as held:
        with held.open(f"texts/{KEY}/texts.npy", "w") as inside:
            for _ in range(80):
                inside.write(bytes(2**20))
        held.writestr(f"texts/{KEY}/card.json", "{}")
    said = refused(tmp_path / "inside/library", tmp_path / "a.zip")
    assert "to 80.0 MiB, more than 50 times its size" in said
    assert not (tmp_path / "inside/library").exists()


def test_a_huge_card_and_an_entry_that_is_there_twice_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as held:
        held.writestr(f"texts/{KEY}/card.json", b" " * (17 * 2**20))
    assert "17.0 MiB, and at most 16 MiB" in refused(tmp_path / "inside/library", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as held:
        held.writestr(f"texts/{KEY}/card.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate name"):
            held.writestr(f"texts/{KEY}/card.json", "{}")
    assert "card.json twice" in refused(tmp_path / "inside/library", tmp_path / "b.zip")


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_archive_is_refused(tmp_path: Path, what: str) -> None:
    said = refused(tmp_path / "inside/library", zipped(tmp_path / "a.zip", FOREIGN[what]))
    assert "\n" not in said


def test_an_archive_with_an_artefact_that_was_changed_is_refused(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as held:
        members: dict[str, bytes | str] = {each: held.read(each) for each in held.namelist()}
    name = next(name for name in members if name.endswith("prompt.safetensors"))
    changed = zipped(tmp_path / "a.zip", {**members, name: bytes(members[name])[:-1] + b"\xff"})
    said = refused(tmp_path / "inside/library", changed)
    assert "is damaged: " in said
    assert said.endswith("; have it exported again")


@pytest.mark.parametrize("content", [b"", b"x", b"PK", b"PK\x05\x06" + b"\0" * 18])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    refused(tmp_path / "inside/library", tmp_path / "a.zip")


def test_an_archive_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "inside/library", tmp_path / "nowhere.zip")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "inside/library", tmp_path / "folder")


def places(size: int) -> Iterator[int]:
    """Places all over a file, and close together at its ends, where an archive says what it holds."""
    yield from sorted({*range(0, size, max(size // 60, 1)), *range(30), *range(size - 30, size)})


def test_an_archive_cut_off_anywhere_is_refused_and_nothing_is_taken(archive: Path, tmp_path: Path) -> None:
    whole, cut = archive.read_bytes(), tmp_path / "cut.zip"
    for end in places(len(whole)):
        cut.write_bytes(whole[:end])
        refused(tmp_path / "inside/library", cut)


def test_an_archive_with_a_byte_changed_anywhere_is_refused_or_whole(archive: Path, tmp_path: Path) -> None:
    """Some bytes tell dates and flags: what is taken then is what was exported."""
    whole, changed = bytearray(archive.read_bytes()), tmp_path / "changed.zip"
    import_archive(PromptLibrary(tmp_path / "sound"), archive)
    sound = files(tmp_path / "sound")
    for place in places(len(whole)):
        root = tmp_path / f"at-{place}" / "library"
        changed.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            import_archive(PromptLibrary(root), changed)
        except Misuse as error:
            assert str(error).startswith(f"{changed}: ")
            assert files(root) == {}
        else:
            assert files(root).items() <= sound.items()


def test_an_archive_that_asks_for_a_password_is_refused(archive: Path, tmp_path: Path) -> None:
    """Zip tools set the first flag of every entry that they lock, in its header and in the directory."""
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as held:
        offsets = [entry.header_offset + 6 for entry in held.infolist()]
    start = content.find(b"PK\x01\x02")
    while start >= 0:
        offsets.append(start + 8)
        start = content.find(b"PK\x01\x02", start + 4)
    for offset in offsets:
        content[offset] |= 1
    (tmp_path / "locked.zip").write_bytes(content)
    refused(tmp_path / "inside/library", tmp_path / "locked.zip")


def test_what_is_there_already_stays(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "library"
    import_archive(PromptLibrary(root), archive)
    before = {path: path.stat().st_mtime_ns for kind in KINDS - {"tasks"} for path in (root / kind).rglob("*")}
    import_archive(PromptLibrary(root), archive)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def ran(*arguments: object) -> str:
    """What `panda-tune library` answers, in this process."""
    done = CliRunner().invoke(app, ["library", *map(str, arguments)])
    assert done.exit_code == 0, done.exception
    return done.stdout


def test_the_command_exports_and_imports(ours: Path, archive: Path, tmp_path: Path) -> None:
    said = ran("export", ours / "experiment.yaml", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as held, zipfile.ZipFile(archive) as before:
        assert held.namelist() == before.namelist()
    assert said == f"{tmp_path}/a.zip: 11 artefacts of s1\n"
    file = file_without_source(ours, tmp_path / "there")
    said = ran("import", file, tmp_path / "a.zip")
    assert said == "11 new artefacts of s1; name them under `sources:`, their data is not needed\n"
    done = panda_tune("library", "import", file, tmp_path / "no.zip", code=2)
    assert done.stderr.startswith(f"{tmp_path}/no.zip: cannot be read as an archive")
    assert "Traceback" not in done.stderr


def test_hashes_of_texts_are_those_of_the_data(ours: Path, theirs: Callable[..., Plan]) -> None:
    plan = theirs()
    (mine,) = make_plans(load(ours / "experiment.yaml"))
    library = PromptLibrary(plan.experiment.storage_path / "library")
    here = split_text_hashes(PromptLibrary(ours / "runs/library"), mine.tasks["s1"], "train", None)
    assert np.array_equal(split_text_hashes(library, plan.tasks["s1"], "train", None), here)
    assert len(here) == 60


@pytest.mark.slow
def test_a_search_from_imported_prompts_is_the_search(
    plms: Callable[[str], Path], tmp_path: Path, ray_address: str
) -> None:
    """The same winners with the same scores, though nobody there has a source's data."""
    folder = tmp_path / "here"
    folder.mkdir()
    search = {"trials": 2, "scheduler": "none"}  # what ASHA stops depends on which trial is faster
    file = experiment_file(folder, plms("bert"), methods=["spot"], search=search)
    panda_tune_here("search", file, "--address", ray_address)
    panda_tune_here("library", "export", file, tmp_path / "a.zip")
    there = tmp_path / "there"
    shutil.copytree(folder / "data/t", there / "data/t")
    shutil.copy(file, there / "experiment.yaml")
    panda_tune_here("library", "import", there / "experiment.yaml", tmp_path / "a.zip")
    panda_tune_here("search", there / "experiment.yaml", "--address", ray_address)
    before, after = (
        json.loads(panda_tune_here("best", each, "--format", "json").stdout)
        for each in (file, there / "experiment.yaml")
    )
    for rows in (before, after):
        for row in rows:
            del row["run_id"], row["seconds"], row["config"]
    assert after == before
    exported, found = files(folder / "runs/library"), files(there / "runs/library")
    prompts = {path: content for path, content in found.items() if path.endswith("prompt.safetensors")}
    sources = {path for path in prompts if json.loads(found[f"{path.rsplit('/', 1)[0]}/card.json"])["task"] != "t"}
    assert sources
    assert all(prompts[path] == exported[path] for path in sources)
    assert panda_tune_here("search", there / "experiment.yaml").stderr.count("nothing was computed") == 1
