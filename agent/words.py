"""What the scripted analyst says with a call: short, in several wordings."""

import random

WORDS: dict[str, tuple[str, ...]] = {
    "tables": (
        "First I look at which tables there are.",
        "Let me see the tables.",
        "I begin with an overview of the database.",
    ),
    "tables again": ("That table has another name. I look at the list.", "Which tables are there really?"),
    "columns": (
        "I need the columns of {table}.",
        "Let me see how {table} is built.",
        "What does {table} hold?",
    ),
    "search": (
        "Where does '{term}' occur, and how is it spelled?",
        "I look for '{term}' in the data.",
        "Let me find '{term}' before I write the query.",
    ),
    "query": (
        "Now the query.",
        "With that I can write the query.",
        "I compute the answer.",
        "This should answer the question.",
    ),
    "try": ("I try the query first.", "A first look at the result.", "Let me run it as SQL."),
    "mended": (
        "I mend that and run it again.",
        "Corrected; once more.",
        "Now with the right name and syntax.",
        "The error is clear. Again.",
    ),
    "debug": ("What went wrong?", "I let the error be explained.", "Let me look at the error more closely."),
    "empty": (
        "That found nothing. Perhaps '{place}' is spelled differently in the data.",
        "This cannot be right: I check how '{place}' is written.",
    ),
    "window": (
        "The question is about a certain time, which I left out. Which column holds it?",
        "I forgot the period that was asked about.",
    ),
    "compute": (
        "I write down the values of the note and compute.",
        "The note gives what is needed. I calculate it in code.",
        "Let me put the values and the rule into code.",
    ),
    "values": ("First the values that the note gives.", "I write down the values, with their units converted."),
    "rules": ("First the rule as code.", "I define the calculation."),
    "answer": ("Now the result.", "With that I can compute the answer.", "Put together:"),
    "unit": (
        "The note gives {place} in another unit than the formula wants. I convert it.",
        "Wait: {place} has to be converted first.",
    ),
    "missing": (
        "The note lacks a value that the calculation needs, so it cannot be answered.",
        "Something that is needed is not known for this visit. The answer is null.",
    ),
    "nothing": ("There is nothing to compute with: I submit null.", "So null is the answer."),
    "check": ("A check of the form before I submit.", "Let me look at the answer once more."),
    "submit": ("That is the answer.", "The result is plausible. I submit it.", "I hand it in.", "Done; I submit."),
}


def say(what: str, rng: random.Random, /, **fields: str) -> str:
    """One wording, drawn by `rng`."""
    return rng.choice(WORDS[what]).format(**fields)
