//! Reads by agents: units that work alone, for threads.

use super::{Access, Clocks, Races, Range, Trouble};

impl Races {
    /// Records that an agent reads `addr..addr + len` (all of the words it touches, where they are not split), if `right` says so of the last write to each part and its
    /// layout.
    ///
    /// # Errors
    /// The address of the first part that is wrong, with what is wrong unless `right` said no.
    pub(crate) fn read_by_agent(
        &mut self,
        clocks: &Clocks,
        me: Access,
        (addr, len): (u32, u32),
        mut right: impl FnMut(&Access, u8) -> bool,
    ) -> Result<(), (u32, Option<Trouble>)> {
        let (mut a, end) = (addr, addr + len);
        while a < end {
            let block = self.block;
            let split = self.cell(Range::Words, a as usize / 4).split == block;
            let (range, i, next) = match split {
                false => (Range::Words, a as usize / 4, (a / 4 + 1) * 4),
                true => (Range::Bytes, a as usize, a + 1),
            };
            self.cell_read_by_agent(clocks, me, (range, i), &mut right)
                .map_err(|trouble| (a, trouble))?;
            a = next;
        }
        Ok(())
    }

    fn cell_read_by_agent(
        &mut self,
        clocks: &Clocks,
        me: Access,
        (range, i): (Range, usize),
        right: &mut impl FnMut(&Access, u8) -> bool,
    ) -> Result<(), Option<Trouble>> {
        let cell = self.cell(range, i);
        if let Some(trouble) = cell.pending() {
            return Err(Some(trouble));
        }
        if clocks.stale(&cell.write) {
            return Err(Some(Trouble::Unwritten));
        }
        let atomic = !clocks.stale(&cell.atomic);
        if !right(&cell.write, cell.layout) || atomic && !right(&cell.atomic, 0) {
            return Err(None);
        }
        // A later read of the same agent stands for the earlier ones: nobody knows of it without knowing of them.
        let (first, alone) = (clocks.stale(&cell.read), cell.many[0] == 0);
        if first || alone && cell.read.warp == me.warp {
            (cell.read, cell.many[0]) = (me, 0);
            return Ok(());
        }
        let (read, many) = (cell.read, cell.many[0]);
        if alone {
            let list = self.keep(vec![read, me]);
            let cell = self.cell(range, i);
            (cell.read, cell.many[0]) = (me, list);
            return Ok(());
        }
        cell.read = me;
        let list = &mut self.pool[many as usize - 1];
        match list.iter_mut().find(|a| a.warp == me.warp) {
            Some(earlier) => *earlier = me,
            None => list.push(me),
        }
        Ok(())
    }
}
