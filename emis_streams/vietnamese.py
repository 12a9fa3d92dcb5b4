"""Names of people, school levels and subjects of the Vietnamese general education, for made-up data."""

import unicodedata
from dataclasses import dataclass

FAMILY_NAMES = (
    ("Nguyễn",) * 32
    + ("Trần",) * 11
    + ("Lê",) * 10
    + ("Phạm",) * 7
    + ("Hoàng", "Huỳnh", "Phan", "Vũ", "Võ") * 3
    + ("Đặng", "Bùi", "Đỗ") * 2
    + ("Hồ", "Ngô", "Dương", "Lý", "Đinh", "Trịnh", "Mai", "Cao", "Lương", "Lò", "Vàng", "Giàng", "Nông", "Quàng")
)
"""Some several times: about as frequent as they are."""

_WOMEN = (
    "An Anh Chi Dung Giang Hà Hạnh Hằng Hiền Hoa Hồng Huệ Hương Lan Liên Linh Loan Mai My Nga Ngân Nhung "
    "Oanh Phượng Quỳnh Tâm Thảo Thuỷ Trang Tuyết Uyên Vân Yến"
)
_MEN = (
    "Bình Cường Dũng Duy Hải Hiếu Hoà Hùng Huy Khánh Kiên Long Mạnh Nam Nghĩa Phong Phúc Quân Sơn Tài Thắng "
    "Thành Thịnh Tiến Toàn Trung Tú Tuấn Tùng Việt Vinh Vũ"
)

MIDDLE_AND_GIVEN_NAMES = (
    (
        ("Thị", "Thị Thu", "Thị Thanh", "Thị Ngọc", "Ngọc", "Thuý", "Bích", "Kim", "Phương", "Diệu", "Hoài", "Khánh"),
        tuple(_WOMEN.split()),
    ),
    (
        ("Văn", "Đức", "Minh", "Quang", "Hữu", "Công", "Đình", "Xuân", "Thanh", "Gia", "Quốc", "Trọng"),
        tuple(_MEN.split()),
    ),
)
"""Women's, men's."""


@dataclass(frozen=True)
class Post:
    """What one teacher of a school teaches, and how many classes."""

    subjects: tuple[str, ...]
    n_classes: int


@dataclass(frozen=True)
class Level:
    """A kind of school."""

    short: str
    """As in e-mail addresses."""
    grades: tuple[int, ...]
    class_names: tuple[str, ...]
    """What follows the grade: Lớp 10 + A1."""
    posts: tuple[Post, ...]
    homeroom_posts: tuple[int, ...]
    """Which post takes the homeroom of the classes 0, 1, 2, … of a school (then from the start again)."""


def _posts(*what: tuple[str, int]) -> tuple[Post, ...]:
    return tuple(Post(tuple(subjects.split(" + ")), n_classes) for subjects, n_classes in what)


_NUMBERED = tuple(f"A{n}" for n in range(1, 15))

PRIMARY = Level(
    short="th",
    grades=(1, 2, 3, 4, 5),
    class_names=tuple("ABCDEGHIKL"),
    posts=_posts(
        ("Âm nhạc", 10),
        ("Toán + Tiếng Việt", 1),
        ("Tiếng Anh", 8),
        ("Giáo dục thể chất", 10),
        ("Mĩ thuật", 10),
        ("Tin học", 10),
    ),
    homeroom_posts=(1,),
)
LOWER_SECONDARY = Level(
    short="thcs",
    grades=(6, 7, 8, 9),
    class_names=_NUMBERED,
    posts=_posts(
        ("Lịch sử và Địa lí", 10),
        ("Toán", 4),
        ("Ngữ văn", 4),
        ("Tiếng Anh", 4),
        ("Khoa học tự nhiên", 8),
        ("Giáo dục thể chất", 8),
        ("Tin học", 10),
        ("Công nghệ", 10),
        ("Giáo dục công dân", 10),
        ("Âm nhạc", 10),
        ("Mĩ thuật", 10),
    ),
    homeroom_posts=(1, 2, 3, 4, 1, 2, 3, 5),
)
UPPER_SECONDARY = Level(
    short="thpt",
    grades=(10, 11, 12),
    class_names=_NUMBERED,
    posts=_posts(
        ("Lịch sử", 10),
        ("Toán", 4),
        ("Ngữ văn", 4),
        ("Tiếng Anh", 4),
        ("Vật lí", 8),
        ("Hoá học", 8),
        ("Sinh học", 10),
        ("Địa lí", 10),
        ("Giáo dục thể chất", 8),
        ("Tin học", 10),
        ("Công nghệ", 10),
        ("Giáo dục kinh tế và pháp luật", 10),
    ),
    homeroom_posts=(1, 2, 3, 4, 1, 2, 3, 5),
)

LEVELS = (UPPER_SECONDARY, PRIMARY, LOWER_SECONDARY, PRIMARY, PRIMARY, LOWER_SECONDARY, PRIMARY, LOWER_SECONDARY)
"""Of the schools 0, 1, 2, … (then from the start again): about as many of each as there are."""


def person(dice: bytes) -> str:
    """A full name from four random bytes."""
    middle, given = MIDDLE_AND_GIVEN_NAMES[dice[0] % 2]
    family = FAMILY_NAMES[dice[1] * len(FAMILY_NAMES) >> 8]
    return f"{family} {middle[dice[2] % len(middle)]} {given[dice[3] % len(given)]}"


def ascii_of(name: str) -> str:
    """A name as in e-mail addresses: `Đỗ Thị Hằng` is `do.thi.hang`."""
    plain = unicodedata.normalize("NFD", name.lower().replace("đ", "d"))
    return plain.encode("ascii", "ignore").decode().replace(" ", ".")
