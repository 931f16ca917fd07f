"""TA-Lib, NumPy, SciPy, scikit-learn, skfolio, PyPortfolioOpt, Riskfolio-Lib and vollib, one task a request.

Runs in its own environment (see ../construction.py). Reads JSON lines {"task", "data", "out"}, loads the
arrays of `data`, and answers {"seconds", "peer"} with the result in `out`. Where several libraries do the
same, all are timed and the fastest one answers.
"""

# The environment of this script is not the project's, so mypy cannot see what it imports.
# mypy: ignore-errors

import json
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np

warnings.filterwarnings("ignore")
TASKS = {}
DATA = {}
FASTEST = {}


def task(function):
    TASKS[function.__name__] = function
    return function


def timed(work):
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def best(name, rivals):
    """Time every rival at the first call of a task; afterwards only the fastest one."""
    if name not in FASTEST:
        times = {}
        for rival, work in rivals.items():
            work()  # imports, caches
            times[rival] = timed(work)[0]
        FASTEST[name] = min(times, key=times.get)
    rival = FASTEST[name]
    seconds, result = timed(rivals[rival])
    return seconds, result, rival


# --- indicators --------------------------------------------------------------------------------------------


def ta_lib(columns):
    import talib

    c, h, l, v = columns
    macd = talib.MACD(c, 12, 26, 9)
    bands = talib.BBANDS(c, 20, 2.0, 2.0)
    stochastic = talib.STOCH(h, l, c, 14, 3, 0, 3, 0)
    return (
        talib.SMA(c, 20),
        talib.EMA(c, 20),
        talib.WMA(c, 20),
        talib.RSI(c, 14),
        *macd,
        *bands,
        talib.ATR(h, l, c, 14),
        talib.ADX(h, l, c, 14),
        talib.PLUS_DI(h, l, c, 14),
        talib.MINUS_DI(h, l, c, 14),
        talib.ROCP(c, 10),
        talib.MOM(c, 10),
        talib.STDDEV(c, 20),
        talib.MAX(h, 20),
        talib.MIN(l, 20),
        *stochastic,
        talib.OBV(c, v),
        talib.LINEARREG_SLOPE(c, 20),
    )


@task
def indicators(data):
    """Every series of every symbol, each symbol contiguous, as TA-Lib wants it; two threads or one."""
    if "columns" not in DATA:
        DATA["columns"] = [
            tuple(np.ascontiguousarray(data[name][:, j]) for name in ("close", "high", "low", "volume"))
            for j in range(data["close"].shape[1])
        ]
    columns = DATA["columns"]

    def two_threads():
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(ta_lib, columns, chunksize=1))

    rivals = {"TA-Lib": lambda: [ta_lib(c) for c in columns], "TA-Lib, 2 threads": two_threads}
    seconds, result, name = best("indicators", rivals)
    # The last ten bars of each series are enough to compare.
    return seconds, {"last": np.array([[series[-10:] for series in symbol] for symbol in result])}, name


# --- risk --------------------------------------------------------------------------------------------------


def tail(losses, level):
    cut = int(np.ceil(losses.size * level - 1e-9)) - 1
    ordered = np.partition(losses, cut)
    return np.array([ordered[cut], ordered[cut:].mean()])


@task
def normal_var(data):
    def run():
        random = np.random.Generator(np.random.SFC64(1))
        loading = np.linalg.cholesky(data["covariance"]).T @ data["book"]
        draws = random.standard_normal((int(data["scenarios"]), loading.size))
        return tail(-(draws @ loading), 0.99)

    seconds, result = timed(run)
    return seconds, {"risk": result}, "NumPy"


@task
def t_var(data):
    def run():
        random = np.random.Generator(np.random.SFC64(1))
        loading = np.linalg.cholesky(data["covariance"]).T @ data["book"]
        count = int(data["scenarios"])
        draws = random.standard_normal((count, loading.size))
        scale = np.sqrt((5.0 - 2.0) / random.chisquare(5.0, count))
        return tail(-(draws @ loading) * scale, 0.99)

    seconds, result = timed(run)
    return seconds, {"risk": result}, "NumPy"


@task
def scipy_t_var(data):
    from scipy import stats

    def run():
        random = np.random.Generator(np.random.SFC64(1))
        shape = data["covariance"] * (3.0 / 5.0)
        draws = stats.multivariate_t(shape=shape, df=5.0).rvs(int(data["scenarios"]), random_state=random)
        return tail(-(draws @ data["book"]), 0.99)

    seconds, result = timed(run)
    return seconds, {"risk": result}, "SciPy"


@task
def books(data):
    returns, books = data["returns"], data["books"]

    def run():
        gains = books @ returns.T
        count, level = gains.shape[1], 0.99
        cut = count - int(np.ceil(count * level - 1e-9))
        ordered = np.partition(gains, cut, axis=1)[:, : cut + 1]
        share = count * (1 - level)
        var = -ordered[:, cut]
        return var, (-ordered[:, :cut].sum(axis=1) + (share - cut) * var) / share

    seconds, (var, es) = timed(run)
    return seconds, {"var": var, "es": es}, "NumPy"


@task
def ledoit_wolf(data):
    from sklearn.covariance import ledoit_wolf as run

    seconds, (matrix, shrinkage) = timed(lambda: run(data["returns"]))
    return seconds, {"matrix": matrix, "shrinkage": np.array(shrinkage)}, "scikit-learn"


@task
def ewma(data):
    from skfolio.moments import EWCovariance

    decay = 0.94
    model = EWCovariance(half_life=float(np.log(0.5) / np.log(decay)), assume_centered=True)
    seconds, fitted = timed(lambda: model.fit(data["returns"]))
    return seconds, {"matrix": np.asarray(fitted.covariance_)}, "skfolio"


@task
def greeks(data):
    from scipy.special import ndtr

    def run():
        s, k, t, r, v = (data[name] for name in ("spot", "strike", "years", "rate", "volatility"))
        b = r - data["dividend"]
        sign = np.where(data["call"], 1.0, -1.0)
        root = np.sqrt(t)
        deviation = v * root
        d1 = (np.log(s / k) + b * t) / deviation + 0.5 * deviation
        d2 = d1 - deviation
        growth, discount = np.exp((b - r) * t), np.exp(-r * t)
        density = np.exp(-0.5 * d1 * d1) * 0.3989422804014327
        n1, n2 = ndtr(sign * d1), ndtr(sign * d2)
        asset, cash = s * growth * n1, k * discount * n2
        curve = growth * density
        theta = -0.5 * s * curve * v / root - sign * ((b - r) * asset + r * cash)
        figures = (sign * (asset - cash), sign * growth * n1, curve / (s * deviation), s * curve * root)
        return (*figures, theta, sign * t * cash)

    seconds, result = timed(run)
    return seconds, {"greeks": np.array(result)}, "NumPy, SciPy"


@task
def implied(data):
    """Jaeckel's "Let's be rational" as vollib has it, one option a call; a part of the chain, scaled up."""
    from vollib.black_scholes_merton.implied_volatility import implied_volatility as run

    part = 2000
    rows = list(
        zip(
            *(data[name][:part].tolist() for name in ("price", "spot", "strike", "years", "rate", "dividend")),
            ["c" if call else "p" for call in data["call"][:part]],
            strict=True,
        )
    )
    seconds, result = timed(lambda: [run(*row) for row in rows])
    return seconds * data["spot"].size / part, {"volatility": np.array(result)}, "vollib"


# --- construction ------------------------------------------------------------------------------------------


def _mean_variance(data, name):
    import pandas as pd
    from pypfopt import EfficientFrontier
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    returns, expected, covariance = data["returns"], data["expected"], data["covariance"]
    aversion = float(data["aversion"])
    frame = pd.DataFrame(returns)

    def skfolio():
        model = MeanRisk(objective_function=ObjectiveFunction.MAXIMIZE_UTILITY, risk_aversion=aversion / 2)
        return np.asarray(model.fit(frame).weights_)

    def pypfopt(solver):
        def run():
            frontier = EfficientFrontier(expected, covariance, solver=solver)
            return np.array(list(frontier.max_quadratic_utility(risk_aversion=aversion).values()))

        return run

    # Each library's default, and PyPortfolioOpt with the other solver it can be told to use. A rival
    # whose utility is below the best one's by more than 1e-6 of it has not solved the problem.
    rivals = {"skfolio": skfolio, "PyPortfolioOpt": pypfopt(None), "PyPortfolioOpt, Clarabel": pypfopt("CLARABEL")}

    def utility(w):
        return expected @ w - aversion / 2 * w @ covariance @ w

    if name not in FASTEST:
        values = {rival: utility(work()) for rival, work in rivals.items()}
        top = max(values.values())
        rivals = {rival: work for rival, work in rivals.items() if values[rival] >= top - 1e-6 * abs(top)}
    seconds, weights, rival = best(name, rivals)
    return seconds, {"weights": weights}, rival


@task
def mean_variance_20(data):
    return _mean_variance(data, "mean_variance_20")


@task
def mean_variance_100(data):
    return _mean_variance(data, "mean_variance_100")


@task
def mean_variance_500(data):
    return _mean_variance(data, "mean_variance_500")


@task
def risk_parity(data):
    import pandas as pd
    import riskfolio
    from skfolio.optimization import RiskBudgeting

    frame = pd.DataFrame(data["returns"])
    frame.columns = [str(column) for column in frame.columns]

    def skfolio():
        return np.asarray(RiskBudgeting().fit(frame).weights_)

    def lib():
        portfolio = riskfolio.Portfolio(returns=frame)
        portfolio.assets_stats(method_mu="hist", method_cov="hist")
        return np.asarray(portfolio.rp_optimization(model="Classic", rm="MV", rf=0, b=None, hist=True)).ravel()

    seconds, weights, rival = best("risk_parity", {"skfolio": skfolio, "Riskfolio-Lib": lib})
    return seconds, {"weights": weights}, rival


@task
def hrp(data):
    import pandas as pd
    import riskfolio
    from pypfopt import HRPOpt
    from skfolio.cluster import HierarchicalClustering, LinkageMethod
    from skfolio.optimization import HierarchicalRiskParity

    frame = pd.DataFrame(data["returns"])
    covariance = pd.DataFrame(data["covariance"])

    def skfolio():
        linkage = HierarchicalClustering(linkage_method=LinkageMethod.SINGLE)
        return np.asarray(HierarchicalRiskParity(hierarchical_clustering_estimator=linkage).fit(frame).weights_)

    def pypfopt():
        weights = HRPOpt(frame, covariance).optimize(linkage_method="single")
        return np.array([weights[asset] for asset in frame.columns])

    def lib():
        named = frame.rename(columns=str)
        portfolio = riskfolio.HCPortfolio(returns=named)
        weights = portfolio.optimization(
            model="HRP", codependence="pearson", method_cov="hist", rm="MV", rf=0, linkage="single", leaf_order=False
        )
        return np.asarray(weights).ravel()

    seconds, weights, rival = best("hrp", {"skfolio": skfolio, "PyPortfolioOpt": pypfopt, "Riskfolio-Lib": lib})
    return seconds, {"weights": weights}, rival


def _min_cvar(data, name):
    import pandas as pd
    import riskfolio
    from skfolio import RiskMeasure
    from skfolio.optimization import MeanRisk

    frame = pd.DataFrame(data["returns"]).rename(columns=str)

    def skfolio():
        return np.asarray(MeanRisk(risk_measure=RiskMeasure.CVAR, cvar_beta=0.95).fit(frame).weights_)

    def skfolio_highs():
        model = MeanRisk(risk_measure=RiskMeasure.CVAR, cvar_beta=0.95, solver="HIGHS")
        return np.asarray(model.fit(frame).weights_)

    def lib():
        portfolio = riskfolio.Portfolio(returns=frame, alpha=0.05)
        portfolio.assets_stats(method_mu="hist", method_cov="hist")
        return np.asarray(portfolio.optimization(model="Classic", rm="CVaR", obj="MinRisk", rf=0, hist=True)).ravel()

    rivals = {"skfolio": skfolio, "Riskfolio-Lib": lib}
    try:
        skfolio_highs()
        rivals["skfolio, HiGHS"] = skfolio_highs
    except Exception as error:  # a rival that this environment cannot run is named, and left out
        print(f"skfolio with HiGHS: {error}", file=sys.stderr)
    seconds, weights, rival = best(name, rivals)
    return seconds, {"weights": weights}, rival


@task
def min_cvar_100(data):
    return _min_cvar(data, "min_cvar_100")


@task
def min_cvar_500(data):
    return _min_cvar(data, "min_cvar_500")


def main():
    answers = sys.stdout
    sys.stdout = sys.stderr  # libraries that print must not spoil the answers
    for line in sys.stdin:
        request = json.loads(line)
        name = request["task"]
        try:
            if ("data", name) not in DATA:
                with np.load(request["data"]) as arrays:
                    DATA["data", name] = dict(arrays)
            seconds, result, peer = TASKS[name](DATA["data", name])
            np.savez(request["out"], **result)
            answer = {"seconds": seconds, "peer": peer}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
