"""Names of runs, tags, metrics and states in MLflow: what its users and their charts know them by."""

ID = "panda.id"
"""Tag by which a run is found before it is made: its stage and key."""

TWIN_OF = "panda.twin_of"
"""Tag of a run that was made twice and is deleted: MLflow's id of the one that is kept."""

STAGE, TARGET, SOURCE, METHOD, PLM = "stage", "target", "source", "method", "plm"
STUDY, TRIAL, CURRENT, STATE, FAILURE, NODE = "study", "trial", "current", "state", "failure", "node"
SIGNAL, PROTOCOL, WINNER_RUN, CONSTRUCTED = "signal", "protocol", "winner_run", "constructed"
OVERLAP, POOR_SOURCE = "overlap", "source_at_majority"
STAGES = ("source", "study", "trial", "confirm", "analysis")
PARENT = "mlflow.parentRunId"

SCORE_STD, LOSS, EVALUATION_SHARE, LAMBDA_EFFECTIVE = "score_std", "loss", "evaluation_share", "lambda_effective"
"""Metrics of a trial's evaluations, beside `score`, `score/seed/…` and `seconds`."""

REFERENCE, BASELINE, START = "reference", "baseline", "start"
"""Tag of studies that others are compared with, and its values: `baseline`, which gains are over, and `start`, a
source's prompt as a mere start."""

SIMILARITY_IN_LOSS = "similarity_in_loss"
YES, NO, OFF = "yes", "no", "off"
"""Tag, and its values: whether the pair's similarity weighs the loss; `off` of a method that could, but was told not to."""

CONFIRMED, UNCONFIRMED = "confirmed", "unconfirmed"
"""States of a study that has ended: with a winner, and without."""

COMPLETE, STOPPED, FAILED, RUNNING = "complete", "stopped early", "failed", "running"
TRIAL_STATES = (COMPLETE, STOPPED, FAILED, RUNNING)
"""States of a trial."""

SELECTION, REPORT, GAIN, TWIN, MAJORITY = "score/selection", "score/report", "gain", "twin", "majority"
SCORE, STD, N, LOW, HIGH, P = "score", "std", "n", "low", "high", "p"
STEPS, TEACHER_STEPS, SECONDS, TRUNCATED = "steps", "teacher_steps", "seconds", "truncated"
CHOSEN_BY = "score/chosen_by"
"""Before a seed: the selection score of the other seeds, by which the one that is scored with it was chosen."""
REPEAT = "repeat"
"""Tag: which search of its pair a study is; 0 is the one that is reported."""

PARTNERS = "partners"
"""Tag: the sources that joined the winner's own, with commas between."""

SPENT, RUNS = "replica_steps", "runs"
"""Metric of a trial: steps of training of all its seeds; tag of trials and studies, as JSON: the runs that they start
from or learn from, each with its steps of all seeds."""

SIMILARITY = "similarity"
SOURCE_ONLY = ("source_size", "label_entropy")
"""Similarities that know nothing of the target: trivial baselines, which the others are to beat."""

TEACHER, GAP_CLOSED, RELATIVE, ERROR_REDUCTION = "teacher", "gap_closed", "relative_performance", "error_reduction"
CONVERGENCE, COMPARABLE, EARLY = "speedup/convergence", "speedup/comparable", "early"
FIRST = "first"
"""Before the measures of a study's first trial, the published setting that every pair ran: its selection score,
and gain, speed-ups and so on over the first trial of the baseline."""

SEED = "seed"
"""Before a seed: `score/report/seed/10`, `gain/seed/10`."""

NEVER = "never_comparable"
"""Tag of a study whose winner never reached, in the search, what the baseline's ended with; `first_…` of its first trial."""

SUPERSEDED = "superseded_by"
"""Tag of an earlier analysis: the run of the later one."""

CONFIG_FILE = "config.json"
"""Artifact of a study's run: the winner as a complete experiment file."""

CONTRIBUTIONS_FILE = "contributions.csv"
"""Artifact of a study's run: what each report row adds to the score of each seed."""
