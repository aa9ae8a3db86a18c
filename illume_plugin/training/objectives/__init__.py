"""The objectives of a run, each a pure function of log-probabilities.

Every objective takes `logps`, shape (rows, tokens): the log-probability of each of a row's own tokens by the
model that is trained, float32; a `mask` of the same shape that says which of them count; and a weight for
each record. It returns this micro-batch's share of the step's loss, and shares of statistics.

Normalisation runs over the whole optimiser step: `total` is what the objective's counting function gives,
summed over all micro-batches (and processes) of the step. So the shares of a step add up to its loss
however it was split, and a micro-batch with nothing to count gives 0, never NaN. Statistics add up likewise.

Importing this package does not load torch; importing one of its modules does.
"""
