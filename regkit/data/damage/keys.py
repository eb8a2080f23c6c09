"""Keys: which letters are beside each other on a keyboard."""

ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
PLACES = {letter: (row, place + row / 2) for row, letters in enumerate(ROWS) for place, letter in enumerate(letters)}
NEIGHBOURS = {
    letter: "".join(
        other
        for other, (beside, there) in PLACES.items()
        if other != letter and abs(row - beside) <= 1 and abs(place - there) <= 1
    )
    for letter, (row, place) in PLACES.items()
}
