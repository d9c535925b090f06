"""Systems of the papers, one per file, all behind the contract of :class:`System`."""

from gpsense.systems._columns import ColumnSystem
from gpsense.systems._contract import Cost, System
from gpsense.systems._coordinates import CoordinatesProblem, CoordinatesSetting, CoordinatesSpec, CoordinateSystem
from gpsense.systems._weights import WeightSystem
from gpsense.systems.diabetes import Diabetes, DiabetesInstance, DiabetesSpec, sample_diabetes
from gpsense.systems.digits import Digits, DigitsInstance, DigitsProblem, DigitsSpec, sample_digits
from gpsense.systems.images import (
    Images,
    ImagesInstance,
    ImagesSetting,
    ImagesSpec,
    NetworkProblem,
    NetworkSystem,
    sample_images,
)
from gpsense.systems.quadratic_network import (
    QuadraticNetwork,
    QuadraticNetworkInstance,
    QuadraticNetworkSpec,
    sample_quadratic_network,
)
from gpsense.systems.rectangular import Rectangular, RectangularProblem, RectangularSpec, sample_rectangular
from gpsense.systems.sensing import (
    Sensing,
    SensingInstance,
    SensingProblem,
    SensingSetting,
    SensingSpec,
    sample_sensing,
)
from gpsense.systems.sparse_features import (
    SparseFeatures,
    SparseFeaturesInstance,
    SparseFeaturesSpec,
    sample_sparse_features,
)
from gpsense.systems.teacher_student import (
    TeacherStudent,
    TeacherStudentInstance,
    TeacherStudentProblem,
    TeacherStudentSetting,
    TeacherStudentSpec,
    sample_teacher_student,
)

_SYSTEMS: tuple[System, ...] = (
    Sensing(),
    QuadraticNetwork(),
    Digits(),
    Rectangular(),
    SparseFeatures(),
    Diabetes(),
    TeacherStudent(),
    Images(),
)
SYSTEMS = {system.name: system for system in _SYSTEMS}

__all__ = [
    "SYSTEMS",
    "ColumnSystem",
    "CoordinateSystem",
    "CoordinatesProblem",
    "CoordinatesSetting",
    "CoordinatesSpec",
    "Cost",
    "Diabetes",
    "DiabetesInstance",
    "DiabetesSpec",
    "Digits",
    "DigitsInstance",
    "DigitsProblem",
    "DigitsSpec",
    "Images",
    "ImagesInstance",
    "ImagesSetting",
    "ImagesSpec",
    "NetworkProblem",
    "NetworkSystem",
    "QuadraticNetwork",
    "QuadraticNetworkInstance",
    "QuadraticNetworkSpec",
    "Rectangular",
    "RectangularProblem",
    "RectangularSpec",
    "Sensing",
    "SensingInstance",
    "SensingProblem",
    "SensingSetting",
    "SensingSpec",
    "SparseFeatures",
    "SparseFeaturesInstance",
    "SparseFeaturesSpec",
    "System",
    "TeacherStudent",
    "TeacherStudentInstance",
    "TeacherStudentProblem",
    "TeacherStudentSetting",
    "TeacherStudentSpec",
    "WeightSystem",
    "sample_diabetes",
    "sample_digits",
    "sample_images",
    "sample_quadratic_network",
    "sample_rectangular",
    "sample_sensing",
    "sample_sparse_features",
    "sample_teacher_student",
]
