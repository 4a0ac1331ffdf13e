//! The socket between parent and child, and the descriptors that travel over it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Descriptors that may come with one piece of data.
const MAX_DESCRIPTORS: usize = 4;

/// Both ends of a new connection. Neither is inherited by another process by accident.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// Sends what the socket takes now, with these descriptors, and returns how much that was. `flags` may say that it
/// waits for nothing.
pub(crate) fn send_now(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[OwnedFd],
    flags: SendFlags,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    loop {
        match sendmsg(&socket, &[IoSlice::new(bytes)], &mut ancillary, flags | SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

/// What one look at the socket brought.
#[derive(Debug)]
pub(crate) struct Received {
    /// 0 = the other side has closed.
    pub(crate) bytes: usize,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// Waits for data and the descriptors that come with it.
pub(crate) fn receive(socket: impl AsFd, into: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(&socket, &mut [IoSliceMut::new(into)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            outcome => break outcome?,
        }
    };
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(Received { bytes: received.bytes, descriptors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_descriptor_arrives_with_its_bytes() {
        let (ours, theirs) = pair().unwrap();
        let mut file = tempfile();
        file.write_all(b"inside").unwrap();
        send_now(&ours, b"first", &[], SendFlags::empty()).unwrap();
        send_now(&ours, b"second", &[file.try_clone().unwrap().into()], SendFlags::empty()).unwrap();
        drop(ours);
        let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
        loop {
            let mut buffer = [0; 64];
            let received = receive(&theirs, &mut buffer).unwrap();
            if received.bytes == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..received.bytes]);
            descriptors.extend(received.descriptors);
        }
        assert_eq!(bytes, b"firstsecond");
        let mut arrived = std::fs::File::from(descriptors.pop().unwrap());
        assert!(descriptors.is_empty());
        let mut text = String::new();
        arrived.rewind().unwrap();
        arrived.read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
    }

    fn tempfile() -> std::fs::File {
        rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into()
    }
}
