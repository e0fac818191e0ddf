-- For mysql_native_password, sealed under the installation's key; NULL where no listener asked for it when the
-- credential was issued.
ALTER TABLE credentials ADD COLUMN mysql_native BLOB;
