use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::tls::memory::{self, Dice, Pipe, Weather};

const CODECS: [Codec; 2] = [Codec::Zlib, Codec::Zstd];

fn weather(piece_max: usize) -> Weather {
    Weather { latency_max: Duration::from_millis(3), piece_max, capacity: 2_000, lost_once_in: 0 }
}

fn ends(seed: u64, codec: Codec, piece_max: usize) -> (Stream, Pipe) {
    let (ours, theirs) = memory::pair(&mut Dice::new(seed), weather(piece_max), 1);
    let stream = Stream::Memory(Box::new(ours));
    let compressed = Compressed::new(stream, codec, BytesMut::new(), BytesMut::new());
    (Stream::Compressed(Box::new(compressed)), theirs)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(work)
}

/// As a client sends it.
fn packed(codec: Codec, number: u8, content: &[u8]) -> Vec<u8> {
    let small = match codec {
        Codec::Zlib => {
            let mut small = Vec::with_capacity(content.len() + 100);
            let mut deflate = Compress::new(Compression::best(), true);
            deflate.compress_vec(content, &mut small, FlushCompress::Finish).unwrap();
            small
        }
        Codec::Zstd => zstd::bulk::compress(content, 19).unwrap(),
    };
    outer(number, &small, content.len())
}

fn outer(number: u8, content: &[u8], inside: usize) -> Vec<u8> {
    let mut all = (content.len() as u32).to_le_bytes()[..3].to_vec();
    all.push(number);
    all.extend(&(inside as u32).to_le_bytes()[..3]);
    all.extend(content);
    all
}

fn inner(number: u8, content: &[u8]) -> Vec<u8> {
    let mut all = (content.len() as u32).to_le_bytes()[..3].to_vec();
    all.push(number);
    all.extend(content);
    all
}

/// The numbers of compressed packets, and what is in them.
fn unpacked(codec: Codec, mut all: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut numbers, mut inside) = (Vec::new(), Vec::new());
    while !all.is_empty() {
        let (length, plain) = (u24(all), u24(&all[4..]));
        numbers.push(all[3]);
        let content = &all[HEAD..HEAD + length];
        match (plain, codec) {
            (0, _) => inside.extend(content),
            (_, Codec::Zlib) => {
                let mut out = Vec::with_capacity(plain);
                Decompress::new(true).decompress_vec(content, &mut out, FlushDecompress::Finish).unwrap();
                assert_eq!(out.len(), plain);
                inside.extend(out);
            }
            (_, Codec::Zstd) => {
                let out = zstd::bulk::decompress(content, plain).unwrap();
                assert_eq!(out.len(), plain);
                inside.extend(out);
            }
        }
        all = &all[HEAD + length..];
    }
    (numbers, inside)
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        (any::<u8>(), 0..60_000usize).prop_map(|(byte, count)| vec![byte; count]),
        prop::collection::vec(0..4u8, 0..20_000),
    ]
}

fn short() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        (any::<u8>(), 0..200usize).prop_map(|(byte, count)| vec![byte; count])
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_a_client_packs_is_read(
        seed in any::<u64>(),
        codec in prop::sample::select(&CODECS[..]),
        piece_max in prop::sample::select(&[1usize, 7, 1_000, 100_000][..]),
        packets in prop::collection::vec((content(), any::<bool>()), 1..6),
    ) {
        let (mut stream, mut client) = ends(seed, codec, piece_max);
        let read = run(async {
            let mut sent = Vec::new();
            for (content, pack) in &packets {
                // Nothing cannot be packed, and is sent by nobody.
                sent.extend(match *pack && !content.is_empty() {
                    true => packed(codec, 0, content),
                    false => outer(0, content, 0),
                });
            }
            let read = async {
                let mut read = Vec::new();
                stream.read_to_end(&mut read).await.unwrap();
                read
            };
            let send = async {
                client.write_all(&sent).await.unwrap();
                client.shutdown().await.unwrap();
            };
            tokio::join!(read, send).0
        });
        prop_assert_eq!(read, packets.iter().flat_map(|(content, _)| content.clone()).collect::<Vec<_>>());
        let Stream::Compressed(stream) = stream else { unreachable!() };
        prop_assert!(!stream.is_within() && stream.withheld.is_empty() && stream.pending.capacity() == 0);
    }

    #[test]
    fn answers_are_packed_and_numbered(
        seed in any::<u64>(),
        codec in prop::sample::select(&CODECS[..]),
        piece_max in prop::sample::select(&[50usize, 1_000, 100_000][..]),
        chunk in prop::sample::select(&[3usize, 50, 9_000, 200_000][..]),
        heard in 0..4u8,
        // More than 256, after which the numbers begin again.
        answer in prop::collection::vec(short(), 1..300),
    ) {
        let (mut stream, mut client) = ends(seed, codec, piece_max);
        let mut said = Vec::new();
        for (at, content) in answer.iter().enumerate() {
            said.extend(inner((at + 1) as u8, content));
        }
        let got = run(async {
            client.write_all(&outer(heard, &inner(0, b"x"), 0)).await.unwrap();
            stream.read_exact(&mut [0; 5]).await.unwrap();
            let answers = async {
                for part in said.chunks(chunk) {
                    stream.write_all(part).await.unwrap();
                    stream.flush().await.unwrap();
                }
                stream.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            tokio::join!(answers, async { client.read_to_end(&mut got).await.unwrap() });
            got
        });
        let (numbers, inside) = unpacked(codec, &got);
        prop_assert!(inside == said);
        let right = (0..numbers.len()).map(|at| heard.wrapping_add(1).wrapping_add(at as u8));
        prop_assert!(numbers.iter().copied().eq(right), "{numbers:?}");
    }

    #[test]
    fn whatever_comes_is_refused_or_read(
        seed in any::<u64>(),
        codec in prop::sample::select(&CODECS[..]),
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        good in content(),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut bent = packed(codec, 0, &good);
        let at = at.index(bent.len());
        bent[at] = to;
        for sent in [bytes, bent] {
            let (mut stream, mut client) = ends(seed, codec, 100);
            let read = run(async {
                let read = async {
                    let mut read = Vec::new();
                    let _ = stream.read_to_end(&mut read).await;
                    // Who is refused does not wait for the rest.
                    drop(stream);
                    read.len()
                };
                let send = async {
                    let _ = client.write_all(&sent).await;
                    let _ = client.shutdown().await;
                };
                tokio::join!(read, send).0
            });
            prop_assert!(read <= CONTINUED + sent.len());
        }
    }
}

/// Several commands in one go, each of which is answered from number 1 on.
#[test]
fn each_answer_of_a_pipeline_has_its_own_numbers() {
    let (mut stream, mut client) = ends(1, Codec::Zlib, 1_000);
    let answers = [
        [inner(1, &[b'a'; 100]), inner(2, b"b")].concat(),
        inner(1, b"c"),
        [inner(1, b"d"), inner(2, b"e")].concat(),
    ];
    let got = run(async {
        for _ in 0..3 {
            client.write_all(&outer(0, &inner(0, b"x"), 0)).await.unwrap();
        }
        stream.read_exact(&mut [0; 15]).await.unwrap();
        stream.write_all(&answers.concat()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        got
    });
    let (numbers, inside) = unpacked(Codec::Zlib, &got);
    assert_eq!(numbers, [1, 1, 1]);
    assert_eq!(inside, answers.concat());
}

#[test]
fn what_is_longer_or_shorter_than_it_says_is_refused() {
    for codec in CODECS {
        for said in [1, 99, 101, CONTINUED] {
            let (mut stream, mut client) = ends(1, codec, 1_000);
            let mut sent = packed(codec, 0, &[7; 100]);
            sent[4..HEAD].copy_from_slice(&(said as u32).to_le_bytes()[..3]);
            let error = run(async {
                client.write_all(&sent).await.unwrap();
                client.write_all(&packed(codec, 0, b"more")).await.unwrap();
                let mut read = Vec::new();
                stream.read_to_end(&mut read).await.unwrap_err()
            });
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{codec:?} {said}");
        }
    }
}

/// Its own length fits, and what is in it does not come to an end.
#[test]
fn what_stops_in_the_middle_is_refused() {
    for codec in CODECS {
        let whole =
            packed(codec, 0, b"what stops in the middle is refused, wherever that is").split_off(HEAD);
        for kept in 1..whole.len() {
            let (mut stream, mut client) = ends(1, codec, 1_000);
            let error = run(async {
                client.write_all(&outer(0, &whole[..kept], 53)).await.unwrap();
                let mut read = Vec::new();
                stream.read_to_end(&mut read).await.unwrap_err()
            });
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{codec:?} {kept}");
        }
    }
}

#[test]
fn a_small_packet_that_makes_a_large_one_takes_no_room() {
    for codec in CODECS {
        let (mut stream, mut client) = ends(1, codec, 100_000);
        let sent = packed(codec, 0, &vec![0; CONTINUED]);
        run(async {
            let send = async { client.write_all(&sent).await.unwrap() };
            let read = async {
                let (mut space, mut count) = (vec![0; 1_000], 0);
                while count < CONTINUED {
                    count += stream.read(&mut space).await.unwrap();
                    let Stream::Compressed(stream) = &stream else { unreachable!() };
                    if let Reading::Packed(packed) = &stream.reading {
                        assert!(packed.input.capacity() <= 2 * limits::COMPRESSED_READ_BYTES);
                    }
                }
                assert_eq!(count, CONTINUED);
            };
            tokio::join!(send, read);
        });
    }
}

#[test]
fn the_end_of_the_login_is_said_in_clear() {
    let (ours, mut client) = memory::pair(&mut Dice::new(1), weather(100), 1);
    let (first, ahead) = (BytesMut::from(&b"welcome"[..]), BytesMut::from(&outer(0, b"abc", 0)[..]));
    let stream = Stream::Memory(Box::new(ours));
    let mut stream = Stream::Compressed(Box::new(Compressed::new(stream, Codec::Zstd, first, ahead)));
    run(async {
        assert!(!stream.is_silent(), "there is something to read");
        let mut read = [0; 3];
        stream.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"abc");
        assert!(stream.is_silent());
        stream.flush().await.unwrap();
        let mut welcome = [0; 7];
        client.read_exact(&mut welcome).await.unwrap();
        assert_eq!(&welcome, b"welcome");
    });
}

/// The client's side of the same.
fn client_ends(seed: u64, codec: Codec, piece_max: usize) -> (Stream, Pipe) {
    let (ours, theirs) = memory::pair(&mut Dice::new(seed), weather(piece_max), 1);
    let compressed = Compressed::towards_server(Stream::Memory(Box::new(ours)), codec);
    (Stream::Compressed(Box::new(compressed)), theirs)
}

/// Writes in chunks, and gives the numbers and the content of what arrives.
fn written(codec: Codec, chunk: usize, said: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut stream, mut server) = client_ends(1, codec, 1_000);
    let got = run(async {
        let send = async {
            for part in said.chunks(chunk) {
                stream.write_all(part).await.unwrap();
                stream.flush().await.unwrap();
            }
            stream.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        tokio::join!(send, async { server.read_to_end(&mut got).await.unwrap() });
        got
    });
    unpacked(codec, &got)
}

#[test]
fn each_command_begins_with_number_0() {
    let said = [inner(0, &[b'a'; 100]), inner(0, b"b"), inner(0, &[b'c'; 300])].concat();
    for codec in CODECS {
        assert_eq!(written(codec, usize::MAX, &said), (vec![0, 0, 0], said.clone()));
        let (numbers, inside) = written(codec, 50, &said);
        assert_eq!(inside, said);
        // The second begins in the middle of a chunk, whose two parts are packets of two commands.
        assert_eq!(numbers[..4], [0, 1, 2, 0]);
        assert_eq!(numbers.iter().filter(|number| **number == 0).count(), 3);
    }
}

#[test]
fn a_long_command_goes_on_through_its_packets() {
    let long = [inner(0, &vec![b'x'; CONTINUED]), inner(1, b"and more"), inner(0, b"next")].concat();
    let (numbers, inside) = written(Codec::Zlib, usize::MAX, &long);
    assert!(inside == long);
    let (last, command) = numbers.split_last().unwrap();
    assert_eq!(*last, 0);
    assert!(command.iter().copied().eq((0..command.len()).map(|at| at as u8)), "{numbers:?}");
}

/// The server asks for it, and the numbers go on from its own; the number of every 256th packet is that of a command.
#[test]
fn a_file_goes_on_from_where_the_server_was() {
    let (mut stream, mut server) = client_ends(1, Codec::Zlib, 100_000);
    let file: Vec<u8> = (0..600u32).flat_map(|at| inner((at + 7) as u8, b"a line of a file")).collect();
    let end = inner((600 + 7) as u8, b"");
    let got = run(async {
        stream.write_all(&inner(0, b"load")).await.unwrap();
        server.write_all(&outer(4, &inner(6, b"\xfbfile"), 0)).await.unwrap();
        stream.read_exact(&mut [0; 9]).await.unwrap();
        let send = async {
            stream.write_all(&file).await.unwrap();
            stream.write_all(&end).await.unwrap();
            stream.write_all(&inner(0, b"next")).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        tokio::join!(send, async { server.read_to_end(&mut got).await.unwrap() });
        got
    });
    let (numbers, inside) = unpacked(Codec::Zlib, &got);
    assert!(inside == [inner(0, b"load"), file, end, inner(0, b"next")].concat());
    assert_eq!((numbers[0], numbers[1], numbers.last()), (0, 5, Some(&0)));
    let between = &numbers[1..numbers.len() - 1];
    assert!(between.iter().copied().eq((0..between.len()).map(|at| (5 + at) as u8)), "{numbers:?}");
}
