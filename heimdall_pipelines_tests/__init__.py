from pathlib import Path

PROJECT_FOLDER = Path(__file__).parents[1]
