package agent

import "testing"

func TestPlatformUUIDIsReadWhateverTheLanguage(t *testing.T) {
	t.Parallel()
	const out = `+-o J493AP  <class IOPlatformExpertDevice, id 0x100000223, registered, matched, active, busy 0 (1 ms), retain 43>
    {
      "IOPolledInterface" = "AppleARMWatchdogTimerHibernateHandler is not serializable"
      "IOPlatformUUID" = "564DC7C1-40A5-5C50-9F5A-3D2B1A0C9E77"
      "IOPlatformSerialNumber" = "XXXXXXXXXX"
    }
`
	if got, want := platformUUID([]byte(out)), "mac:564dc7c1-40a5-5c50-9f5a-3d2b1a0c9e77"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := platformUUID([]byte("Fehler")); got != "" {
		t.Errorf("nothing to be read: got %q", got)
	}
}
