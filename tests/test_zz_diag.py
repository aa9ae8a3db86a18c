import sys; sys.path.insert(0,'/work/main/tests')
from test_training_run_objectives import *
def test_diag(base, judged, tmp_path):
    praise, blame = replace(FITS, critique="yes"), replace(UNFIT, critique="no")
    said = [replace(e, condition=praise if e.fits else blame) for e in judged.training_set.feedback if not e.refinement]
    learnt = Judged(replace(judged.training_set, feedback=tuple(said)), judged.images)
    always = {**ALONE["dress"], "drop_critique": 0.0, "drop_condition": 0.0}
    told = trained(base, learnt, tmp_path, always, max_steps=None, epochs=60, learning_rate=6e-3)
    print([round(t["dress/loss"],3) for t in told])
    asked = [replace(each, condition=c) for each in said for c in (praise, blame)]
    both = Judged(replace(judged.training_set, feedback=tuple(asked)), judged.images)
    for a in (None,"new"):
        found, run = logps(base, a, both, always, tmp_path)
        for t,v in zip(run.texts, found): print(a, t.task_id, t.fits, t.condition, round(float(v),2), t.rationale)
