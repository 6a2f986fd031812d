"""Parts made of rows that stand in a test, and what became of them."""

import itertools

from tfmodel.data import DataSettings
from tfmodel.data.parts import PART_ROWS, Parts, RowReader, strata_of
from tfmodel.data.parts.fates import PRECEDENCE, REASONS, SPLITS, Fates, ids_of
from tfmodel.data.parts.making import make_part, write_raw


class Made:
    """Rows of several roles in parts, with their fates."""

    def __init__(self, folder, *, seed=1, rows_a_part=PART_ROWS, **settings):
        self.folder = folder
        self.seed = seed
        self.rows_a_part = rows_a_part
        self.settings = DataSettings(train="train.csv", **settings)
        self.parts = Parts(folder / "parts")
        self.parts.begin("key")

    def add(self, **rows):
        for role in sorted(rows, key=PRECEDENCE.index):
            left = iter(rows[role])
            while batch := list(itertools.islice(left, self.rows_a_part)):
                number = len(self.parts.numbers())
                raw = self.folder / "raw"
                write_raw(raw, batch)
                settings = self.settings.model_dump(mode="json")
                part = str(self.parts.path(number))
                make_part(str(raw), part, role, "class", settings, self.seed)
        roles = [self.parts.summary(number)["role"] for number in self.parts.numbers()]
        self.fates = Fates(self.folder, roles)
        self.strata = strata_of(self.parts)
        for number in self.parts.numbers():
            ids = ids_of(number, len(self.parts.index(number)))
            self.fates.assign(ids, roles[number])
        return self

    def each(self):
        """Give (role, row, split, reason, row that stays) of every row, in the order of ids."""
        reader = RowReader(self.parts)
        for number in self.parts.numbers():
            reasons, splits, others = self.fates.of_part(number, len(self.parts.index(number)))
            for place, row in enumerate(self.parts.rows(number)):
                reason = REASONS[reasons[place]]
                other = reader(others[place]).origin if reason not in ("", "max_rows") else ""
                yield self.fates.roles[number], row, SPLITS[splits[place] - 1], reason, other
        reader.close()

    def kept(self):
        """Rows that are kept, by split."""
        found = {name: [] for name in SPLITS}
        for _, row, split, reason, _ in self.each():
            if not reason:
                found[split].append(row)
        return found

    def dropped(self):
        """(role, reason, origin, origin of the row that stays) of the rows that are not."""
        return [
            (role, reason, row.origin, other)
            for role, row, _, reason, other in self.each()
            if reason
        ]
