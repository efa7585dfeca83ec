"""Words of MATLAB, Keras, PyTorch and scikit-learn, and their counterparts here."""

from __future__ import annotations

from collections.abc import Collection

_NO_OWN = "no built-in activation of this name: pass an fg.Activation"
_MOMENTUM = "method=fg.GradientDescent(rate=..., momentum=...)"
_BATCH = "method=fg.LevenbergMarquardt(batch_size=...)"
_DAMPED = "method=fg.LevenbergMarquardt(damping=...)"
_RATE = "method=fg.Adam(rate=...)"
_TARGET = "stop=fg.Stop(target=...)"
_GRADIENT = "stop=fg.Stop(gradient=...)"
_CHANGE = "stop=fg.Stop(loss=...)"
_PATIENCE = "held_out=fg.HeldOut(X, Y, patience=...)"
_RESUME = "checkpoint=fg.Checkpoint(path, resume=True)"
_THREADS = "with fg.threads(n): fg.train(...)"
_BOLD = "no such option: the gain ratio decides how the damping moves"

# For each word: the plain names that may be meant, each only where it is valid, and last a piece
# of code, or the words behind "there is". A word has one entry for all its uses.
SYNONYMS: dict[str, tuple[str, ...]] = {
    # Activations.
    "tansig": ("tanh",),
    "logsig": ("sigmoid",),
    "logistic": ("sigmoid",),
    "expit": ("sigmoid",),
    "purelin": ("identity",),
    "linear": ("identity",),
    "poslin": ("relu",),
    "rectifier": ("relu",),
    "elliotsig": ("softsign",),
    "leakyrelu": ("leaky_relu",),
    "silu": ("swish",),
    "sine": ("sin",),
    "softmax": ("no activation softmax: the loss 'softmax_cross_entropy' applies it",),
    **dict.fromkeys(
        ("satlin", "satlins", "hardlim", "hardlims", "radbas", "radbasn", "tribas", "compet",
         "netinv", "elliot2sig", "elu", "selu", "mish", "relu6"),
        (_NO_OWN,),
    ),
    # Losses.
    **dict.fromkeys(
        ("mse", "sse", "mean_squared_error", "meansquarederror", "squared_error", "mseloss"),
        ("squared",),
    ),
    **dict.fromkeys(
        ("crossentropy", "cross_entropy", "categorical_crossentropy", "log_loss",
         "sparse_categorical_crossentropy", "crossentropyloss"),
        ("softmax_cross_entropy",),
    ),
    **dict.fromkeys(("binary_crossentropy", "bce", "bcewithlogitsloss"), ("logistic",)),
    **dict.fromkeys(("mae", "sae", "mean_absolute_error", "l1", "l1loss"), ("smooth_lp",)),
    # Methods.
    "trainlm": ("lm",),
    "levenberg_marquardt": ("lm",),
    "trainbr": ("method='lm', regularize=fg.Evidence()",),
    "gauss_newton": ("ggn",),
    "newton_cg": ("newton",),
    "traingd": ("bp",),
    "gradient_descent": ("bp",),
    "gd": ("bp",),
    "sgd": ("bp",),
    **dict.fromkeys(("traingdm", "traingdx", "traingda"), (_MOMENTUM,)),
    **dict.fromkeys(
        ("trainscg", "trainbfg", "traincgf", "traincgb", "traincgp", "trainoss", "trainrp", "bfgs",
         "l_bfgs", "l_bfgs_b", "cg", "scg"),
        ("lbfgs",),
    ),
    # Arguments.
    **dict.fromkeys(
        ("epochs", "n_epochs", "num_epochs", "nb_epoch", "max_epochs", "maxit", "maxiter", "n_iter",
         "iterations", "max_iterations"),
        ("max_iter",),
    ),
    "time": ("max_time",),
    "goal": ("target", _TARGET),
    "target": (_TARGET,),
    "loss_target": ("target", _TARGET),
    **dict.fromkeys(("min_grad", "gtol", "grad_tol"), ("gradient", _GRADIENT)),
    **dict.fromkeys(("ftol", "tol", "loss_tol"), ("loss", _CHANGE)),
    **dict.fromkeys(("xtol", "step_tol"), ("step", "stop=fg.Stop(step=...)")),
    **dict.fromkeys(("mu", "lambda_"), ("damping", _DAMPED)),
    **dict.fromkeys(("mu_inc", "mu_dec", "mu_max"), (_BOLD,)),
    "damping": (_DAMPED,),
    "geodesic": ("method=fg.LevenbergMarquardt(geodesic=...)",),
    "precision": ("method=fg.LevenbergMarquardt(precision=...)",),
    "solver": ("method=fg.LevenbergMarquardt(solver=...)",),
    **dict.fromkeys(("batch_size", "batch", "minibatch"), ("batch_size", _BATCH)),
    **dict.fromkeys(("mc", "momentum"), ("momentum", _MOMENTUM)),
    **dict.fromkeys(("lr", "learning_rate", "learning_rate_init", "rate"), ("rate", "step", _RATE)),
    "memory": ("method=fg.LBFGS(memory=...)",),
    **dict.fromkeys(("max_fail", "n_iter_no_change", "patience"), ("patience", _PATIENCE)),
    **dict.fromkeys(("validation", "validation_data", "early_stopping", "val"), ("held_out",)),
    **dict.fromkeys(("optimizer", "optimiser", "trainfcn", "algorithm"), ("method",)),
    **dict.fromkeys(("performfcn", "criterion", "loss_fn"), ("loss", "fg.Problem(..., loss=...)")),
    **dict.fromkeys(("weight_decay", "l2"), ("l2", "fg.Problem(..., l2=...)")),
    **dict.fromkeys(("regularization", "regularisation", "regularizer"), ("regularize",)),
    **dict.fromkeys(("escape", "perturb"), ("leave_saddles",)),
    **dict.fromkeys(("hidden_layer_sizes", "hiddensizes", "layers", "units"), ("hidden",)),
    **dict.fromkeys(("random_state", "rng"), ("seed",)),
    **dict.fromkeys(("verbose", "disp", "show", "showwindow", "showcommandline"), ("progress",)),
    **dict.fromkeys(("resume", "checkpoint_every"), (_RESUME,)),
    **dict.fromkeys(("n_threads", "n_jobs", "threads", "workers", "useparallel"), (_THREADS,)),
}  # fmt: skip


def meaning(word: str, valid: Collection[str], *, code: bool = False) -> str:
    """Return the hint for a word of another library, or an empty string.

    Without `code` the hint is one of the valid names.
    """
    for found in SYNONYMS.get(word.lower().replace("-", "_"), ()):
        if found in valid:
            return f"; did you mean {found!r}?"
        if code and found.startswith("no "):
            return f"; there is {found}"
        if code and not found.isidentifier():
            return f"; here it is {found}"
    return ""
