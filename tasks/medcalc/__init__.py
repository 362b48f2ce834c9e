"""Medical calculators of our own, and what is built on them: importing MedCalc-Bench and writing notes for new tasks.

units, lab, physical, dates, dosage, scores_*   the formulas: pure functions, units in the names of parameters
inputs, catalogue*, calculators                 what each calculator asks for, by the benchmark's ids and names
source                                          a call of a calculator as Python that stands alone (an oracle)
release                                         reading the published files
notes, generate                                 synthetic patients, notes about them, and tasks
"""
