"""The texts that teach a model to use the tools. Each stays under 2 KB."""

INSTRUCTIONS = """\
Med-Copilot serves clinical data tasks. Each is worked on in a private sandbox without network and graded by the
server.

1. list_tasks finds a task; start_task opens an episode and gives the problem, the data and the form of the answer.
2. request_info shows tables, columns, values, and where a term occurs. execute_code runs Python or SQL (state is
   kept between calls), run_terminal a shell, debug_code explains an error, read_output pages through long output.
3. submit_answer, once: the answer as JSON, or the name of a variable or file that holds it. What is printed is not
   graded. The episode then ends.

Pass the episode_id to every call. An episode has a number of turns; each result says how many are left.
"""

EPISODE_ID = "From start_task."
FAMILY = "Only tasks of this family; the resource medagentgym://families lists them."
CATEGORY = "Only tasks of this category."
QUERY = "Words that the problem or id must contain, all of them."
CURSOR = "next_cursor of the page before."
LANGUAGE = "sql queries the task's database, read-only."
TIMEOUT = "Seconds that the call may take; at most limits.call_seconds."
BACKGROUND = "Return at once and go on in the background; read_output follows it."
ANSWER = (
    "The answer itself, as JSON of the form that start_task names: a number, text, list, ... "
    "null means: cannot be answered from the data."
)

LIST_TASKS = """\
Find tasks. Filters can be combined; without any, all tasks are listed, page by page (pass next_cursor as cursor).
`total` counts all that match. A task with missing=true cannot be started here because its data are not registered.
Next: start_task with an id.
"""

START_TASK = """\
Open an episode: one attempt at one task, in a sandbox of its own. Returns the episode_id that every other tool
takes, the problem, the form of the answer, the data files and how to open them, the tools allowed, and the limits.

The episode lives until submit_answer or close_episode, until its turns (limits.turns) or its time
(limits.wall_seconds) are used up, or until no call has come for limits.idle_seconds. It does not depend on the
connection. A start that is given up counts as a failed attempt. Starting again is a new attempt with a fresh sandbox.
Next: request_info or execute_code.
"""

REQUEST_INFO = """\
Look at the task's database without writing a query. kind:
- tables: all tables with their numbers of rows and columns
- columns: the columns of `table` with types, keys, numbers of distinct values, examples
- values: the most frequent values of `table`.`column`; with `term` those that contain it, or the nearest
- search: where `term` occurs in any table: whole values, words within values, else close spellings
Use it before writing SQL: spellings and codes in the data are rarely as in the question. Uses up a turn.
Next: execute_code.
"""

EXECUTE_CODE = """\
Run code in the episode's sandbox. Python keeps its names, files and working folder (/work) from call to call; the
value of a last expression is returned as `value`, like in a notebook. sql runs one query on the task's database,
read-only. Data are in /data (read-only); numpy, pandas, sqlite3 and what else is installed can be imported; there is no
network.

status is ok, error (see `error`, then debug_code), timeout, memory or killed (the session was ended: the next call
gets a fresh one, names and files are gone), or running (background=true). A long output is cut to head and tail:
read_output gives the rest. Uses up a turn.
Next: more of this, or submit_answer. Leave the answer in a variable and submit its name.
"""

RUN_TERMINAL = """\
Run a shell command in the episode's sandbox: the same files as execute_code (/work writable, /data read-only), no
network. Good for looking at files and running scripts; a Python name that execute_code made is not visible here. Result
as of execute_code, with exit_code. Uses up a turn.
"""

DEBUG_CODE = """\
Explain an error: the failing line with the values of the names on it, the cause in plain words, and likely fixes
(nearest column, table, key, attribute, file). With `code`, that code is run first (as by execute_code) and its error
explained; with `error`, that text is explained and nothing is run; with neither, the latest error of this episode.
Uses up a turn. Next: execute_code with the mended code.
"""

READ_OUTPUT = """\
Read a part of the output of the latest call when it was cut, or follow work in the background (wait_s waits for
something new). `done` says that nothing more will come; `next_offset` is where to go on. Uses up no turn.
"""

SUBMIT_ANSWER = """\
Hand in the answer and end the episode. Give exactly one of: answer (the JSON itself; null means that it cannot be
answered from the data), variable (the name of a Python variable: exact, and good for tables; a DataFrame is taken as
its rows), file (a JSON file in /work). start_task's answer_form says what is asked for.

There is one submission. One that does not have the form is refused with the form that is wanted, uses up a turn, and
does not end the episode. Only what is submitted is graded; a list of candidates is wrong where one value is asked.
"""

CLOSE_EPISODE = """\
Give up an episode and free its sandbox. It counts as a failed attempt. Use submit_answer when there is an answer.
"""

LIST_EPISODES = """\
Your episodes: those that are open, with the turns that are left, then those that ended last. Use it to find an
episode_id again.
"""

NO_DATA = (
    "No dataset is registered in the data root of this server. Its operator can generate one (`med-copilot tasks "
    "generate`) or import a release (`med-copilot data add`); then start the server again."
)
