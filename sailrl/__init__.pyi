from sailrl.commands.python import RunResult as RunResult
from sailrl.commands.python import eval as eval
from sailrl.commands.python import filter as filter
from sailrl.commands.python import run as run
from sailrl.commands.python import score as score

__version__: str
