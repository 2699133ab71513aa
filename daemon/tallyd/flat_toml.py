import tomllib


def read(text):
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ValueError(str(e))


def replace(text, values):
    raise ValueError("stand-in")
