from .recommender import Recommender as Recommender
from .recommender import recommend as recommend
from .standalone import Standalone as Standalone
