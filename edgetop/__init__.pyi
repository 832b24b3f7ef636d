from edgetop.api import EnergyMeter as EnergyMeter
from edgetop.api import SavedSession as SavedSession
from edgetop.api import examples as examples
from edgetop.api import load_session as load_session
from edgetop.api import sessions as sessions
from edgetop.core.errors import EdgetopError as EdgetopError
from edgetop.live.energy_meter import Measurement as Measurement

__version__: str
