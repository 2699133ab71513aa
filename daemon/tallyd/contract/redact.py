def one_line(text: str, max_length: int) -> str:
    return " ".join(text.split())[:max_length]
