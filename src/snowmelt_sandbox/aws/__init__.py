"""Lambda, Step Functions, S3 and Secrets Manager for one machine."""

from snowmelt_sandbox.aws.execution_environment import Function
from snowmelt_sandbox.aws.lambda_service import LocalLambda, Statistics, WorkerProcess
from snowmelt_sandbox.aws.moto_service import MotoService
from snowmelt_sandbox.aws.stack import LocalAws
from snowmelt_sandbox.aws.step_functions import Execution, LocalStepFunctions

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
