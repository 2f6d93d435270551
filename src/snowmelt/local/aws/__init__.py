"""Lambda, Step Functions, S3 and Secrets Manager for one machine."""

from snowmelt.local.aws.execution_environment import Function
from snowmelt.local.aws.lambda_service import LocalLambda, Statistics, WorkerProcess
from snowmelt.local.aws.moto_service import MotoService
from snowmelt.local.aws.stack import LocalAws
from snowmelt.local.aws.step_functions import Execution, LocalStepFunctions

__all__ = [
    "Execution",
    "Function",
    "LocalAws",
    "LocalLambda",
    "LocalStepFunctions",
    "MotoService",
    "Statistics",
    "WorkerProcess",
]
