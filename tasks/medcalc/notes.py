"""Writing a patient note about drawn facts, in several phrasings, among values that no calculator asks for.

Notes of the two splits come from different sets of phrasings. An older value of a measured quantity is a trap on
purpose; the rule that it does not count is told in every problem.
"""

from collections.abc import Iterable, Sequence
from random import Random

from tasks.medcalc.inputs import Fact, Person
from tasks.task import Split

RULES = (
    "Use the values of the present visit; older ones do not count. Findings and treatments that the note does not "
    "mention are absent. If something that the calculation needs is missing from the note, or the note says that it "
    "is not known, the answer is null."
)

_OPENINGS: dict[Split, tuple[str, ...]] = {
    "train": (
        "{title} {initial}., {age}, was seen on the morning round.",
        "Today's patient is {title} {initial}., {age}.",
        "{title} {initial}., {age}, came for an appointment made last week.",
    ),
    "test": (
        "Summary for {title} {initial}., {age}.",
        "{title} {initial}. is {age} and was brought in by a relative.",
        "We were asked to see {title} {initial}., {age}.",
    ),
}
_VITALS: dict[Split, tuple[str, ...]] = {
    "train": ("Measured at the bedside: {list}.", "On examination: {list}.", "The nurse noted {list}."),
    "test": ("Examination gave {list}.", "Recorded on arrival: {list}.", "The observation chart reads {list}."),
}
_LABS: dict[Split, tuple[str, ...]] = {
    "train": ("Laboratory: {list}.", "Blood was drawn and showed {list}.", "Results: {list}."),
    "test": ("The laboratory reported {list}.", "Values of the day: {list}.", "Tests came back with {list}."),
}
_POSITIVE: dict[Split, tuple[str, ...]] = {
    "train": ("On record: {list}.", "The chart mentions {list}.", "Noted: {list}."),
    "test": ("Documented: {list}.", "Of note: {list}.", "The file lists {list}."),
}
_NEGATIVE: dict[Split, tuple[str, ...]] = {
    "train": ("There is no sign or report of {list}.", "Asked about and absent: {list}."),
    "test": ("Absent: {list}.", "The file rules out {list}."),
}
_UNKNOWN: dict[Split, tuple[str, ...]] = {
    "train": ("Nobody wrote down whether there was {item}.", "It could not be found out whether there was {item}."),
    "test": ("Whether there was {item} is left open on the form.", "The entry on {item} cannot be read."),
}
_EARLIER: dict[Split, tuple[str, ...]] = {
    "train": ("A year ago {item} had been {reading}.", "In an old letter {item} is given as {reading}."),
    "test": ("Two years before, {item} was {reading}.", "The previous clinic had found {item} of {reading}."),
}
_REST: dict[Split, tuple[str, ...]] = {
    "train": ("Appetite and sleep are unchanged.", "The plan will be discussed at noon.", "No new allergy was named."),
    "test": ("The family has been informed.", "A further visit is arranged.", "The patient has eaten breakfast."),
}
_UNKNOWN_ELSEWHERE = ("a childhood allergy", "a tetanus vaccination", "gout in the family", "an earlier stay abroad")
_UNUSED: tuple[tuple[str, float, float, int, str], ...] = (
    ("ferritin", 20, 300, 0, "ng/mL"),
    ("TSH", 0.5, 4.2, 1, "mIU/L"),
    ("magnesium", 1.6, 2.6, 1, "mg/dL"),
    ("phosphate", 2.4, 4.8, 1, "mg/dL"),
    ("uric acid", 3.1, 8.2, 1, "mg/dL"),
    ("lipase", 12, 80, 0, "U/L"),
    ("25-hydroxyvitamin D", 12, 48, 0, "ng/mL"),
    ("C-reactive protein", 1, 90, 0, "mg/L"),
    ("LDH", 120, 320, 0, "U/L"),
    ("erythrocyte sedimentation rate", 4, 60, 0, "mm/h"),
)


def write_note(rng: Random, person: Person, split: Split, facts: Sequence[Fact], earlier: Fact | None = None) -> str:
    """A note that states every fact once. The age is told unless it is withheld: where no fact of the section
    "person" is among `facts`. `earlier` is an outdated value."""
    adult = "woman" if person.sex == "female" else "man"
    aged = any(fact.section == "person" for fact in facts)
    age = (
        rng.choice((f"a {person.age}-year-old {adult}", f"a {adult} aged {person.age}")) if aged else f"a grown {adult}"
    )
    opening = rng.choice(_OPENINGS[split])
    title = "Ms" if person.sex == "female" else "Mr"
    if " is {age}" in opening and rng.random() < 0.5:
        title = "Patient"
    paragraphs = [rng.choice(_REST[split])]
    paragraphs += _paragraphs(rng, split, facts)
    if earlier is not None:
        sentence = rng.choice(_EARLIER[split])
        paragraphs.append(sentence.format(item=earlier.label, reading=earlier.reading))
    rng.shuffle(paragraphs)
    return " ".join([opening.format(title=title, initial=person.initial, age=age), *paragraphs])


def _paragraphs(rng: Random, split: Split, facts: Sequence[Fact]) -> list[str]:
    vitals = _with_pressure([fact for fact in facts if fact.section == "vital"])
    labs = [fact for fact in facts if fact.section == "lab"]
    for label, low, high, digits, unit in rng.sample(_UNUSED, rng.randint(1, 3)):
        value = round(rng.uniform(low, high), digits)
        labs.append(Fact("lab", label, f"{int(value) if digits == 0 else value} {unit}"))
    paragraphs = []
    for phrases, group in ((_VITALS, vitals), (_LABS, labs)):
        if group:
            rng.shuffle(group)
            colon = ": " if rng.random() < 0.3 else " "
            paragraphs.append(
                rng.choice(phrases[split]).format(list=_list(f"{f.label}{colon}{f.reading}" for f in group))
            )
    present = [fact.label for fact in facts if fact.section == "yes"]
    absent = [fact.label for fact in facts if fact.section == "no"]
    for phrases, found, word in ((_POSITIVE, present, "and"), (_NEGATIVE, absent, "or")):
        if found:
            rng.shuffle(found)
            paragraphs.append(rng.choice(phrases[split]).format(list=_list(found, word)))
    paragraphs += [rng.choice(_UNKNOWN[split]).format(item=f.label) for f in facts if f.section == "unknown"]
    if rng.random() < 0.25:
        paragraphs.append(rng.choice(_UNKNOWN[split]).format(item=rng.choice(_UNKNOWN_ELSEWHERE)))
    # Sentences may name one another's doses or days; they stay in one piece and in order.
    if sentences := [fact.label for fact in facts if fact.section == "sentence"]:
        paragraphs.append(" ".join(sentences))
    return paragraphs


def _with_pressure(vitals: list[Fact]) -> list[Fact]:
    """The two blood pressures as one reading, where both are there."""
    pressures = {fact.label: fact for fact in vitals if fact.label.endswith("blood pressure")}
    if len(pressures) != 2:
        return vitals
    systolic, diastolic = (pressures[f"{name} blood pressure"].reading for name in ("systolic", "diastolic"))
    reading = f"{systolic.split()[0]}/{diastolic}"
    return [*(f for f in vitals if f.label not in pressures), Fact("vital", "blood pressure", reading)]


def _list(items: Iterable[str], word: str = "and") -> str:
    texts = list(items)
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} {word} {texts[-1]}"
