//! Indexes and packed segments that somebody made to take all memory.

use super::*;

/// A packed segment with an index that claims this of its one block, with a right checksum.
fn claiming(dir: &Path, change: impl FnOnce(&mut Block)) -> Segment {
    let segment = pack(dir, 1, &[record(1, statement(&who(1, "ana"), 1, "SELECT 1", &[]))], 1);
    let mut packed = File::open(&segment.path).unwrap();
    let identity = Identity::of(&mut packed).unwrap();
    let mut index = build::build(&mut std::fs::read(&segment.path).unwrap().as_slice()).unwrap();
    change(&mut index.blocks[0]);
    index.save(&segment, identity).unwrap();
    segment
}

#[test]
fn an_index_that_claims_more_than_its_segment_has_is_not_used() {
    let changes: [fn(&mut Block); 5] = [
        |_| {},
        |block| block.length = u32::MAX,
        |block| block.size = u32::MAX,
        |block| block.offset = u64::MAX,
        |block| block.offset = 1 << 40,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let segment = claiming(dir.path(), change);
        let used = open(&segment, &Demand::default()).unwrap().is_some();
        assert_eq!(used, number == 0, "{number}");
    }
}

#[test]
fn an_index_file_without_end_is_not_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let segment = claiming(dir.path(), |_| {});
    // Sparse: it takes no disk.
    let file = OpenOptions::new().write(true).open(path(&segment)).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(open(&segment, &Demand::default()).unwrap().is_none());
}

#[test]
fn a_frame_without_end_is_not_gathered_whole() {
    // The first block of a frame that says it is not the last: raw, of as many bytes as a block has (RFC 8878, 3.1.1).
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let head = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
            let block = 128 * 1024_u64;
            for byte in buffer.iter_mut() {
                let at = self.0;
                self.0 += 1;
                *byte = match usize::try_from(at).unwrap() {
                    at if at < head.len() => head[at],
                    at => {
                        let within = (at - head.len()) as u64 % (block + 3);
                        // Type 0 (raw), not the last.
                        *(block << 3)
                            .to_le_bytes()
                            .get(usize::try_from(within).unwrap())
                            .filter(|_| within < 3)
                            .unwrap_or(&b'x')
                    }
                };
            }
            assert!(self.0 < u64::from(MAX_FRAME_BYTES) + (1 << 24), "read without end");
            Ok(buffer.len())
        }
    }
    let error = build::build(&mut Endless(0)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn more_statements_without_an_outcome_than_can_be_held_make_no_index() {
    let ana = who(1, "ana");
    let lines: String = (1..=4_000)
        .map(|seq| record(seq, statement(&ana, seq, "SELECT 1", &[])).json() + "\n")
        .collect();
    let frame = zstd::bulk::compress(lines.as_bytes(), 3).unwrap();
    // Forty or so terms for each statement.
    let within = |room: usize| build::build_within(&mut frame.as_slice(), room).unwrap().blocks.len();
    assert_eq!((within(1_000_000), within(100_000)), (1, 0));
}
